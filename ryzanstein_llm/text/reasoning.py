"""What a model thinks before it answers, taken out of its text.

Such models write `<think>`, their reasoning, `</think>` and the answer. With some templates the
prompt already ends with `<think>`, so that the text begins with the reasoning.
"""

from __future__ import annotations

from .held_back import undecided

__all__ = ["TAGS", "ReasoningParser", "reasoning_tags"]

TAGS = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
)
"""The beginning and the end of reasoning, as models write them."""


def reasoning_tags(template: str) -> tuple[str, str]:
    """The tags that a template's source names; `<think>` and `</think>` if it names none."""
    return next((tags for tags in TAGS if tags[1] in template), TAGS[0])


class ReasoningParser:
    """Divides a text into reasoning and answer while it grows. Make a new one for each text.

    Reasoning is at the beginning of the text or nowhere. Blank lines around it belong to neither
    part. The result depends only on the text, not on how it was cut into pieces.

    Parameters
    ----------
    tags : (str, str)
    open : bool
        Whether the prompt has the first tag already.
    """

    def __init__(self, tags: tuple[str, str] = TAGS[0], *, open: bool = False) -> None:
        self._begin, self._end = tags
        self._held = ""
        self._state = "before" if not open else "blank in"

    def push(self, piece: str) -> tuple[str, str]:
        """(reasoning, answer) that are certain after `piece`."""
        self._held += piece
        reasoning = answer = ""
        while True:
            state = self._state
            if state == "before":
                self._decide_beginning()
            elif state == "blank in":
                self._skip_lines("in")
            elif state == "in":
                reasoning += self._take_reasoning()
            elif state == "blank after":
                self._skip_lines("after")
            else:
                answer, self._held = answer + self._held, ""
            if self._state == state:
                return reasoning, answer

    def flush(self) -> tuple[str, str]:
        """What was held back. Call it after the last piece. Reasoning that did not end is still
        reasoning."""
        held, self._held = self._held, ""
        if self._state == "in":
            return held.rstrip("\n"), ""
        return "", held if self._state == "before" else ""

    def _decide_beginning(self) -> None:
        text = self._held.lstrip()
        if text.startswith(self._begin):
            self._held, self._state = text[len(self._begin) :], "blank in"
        elif not self._begin.startswith(text):
            self._state = "after"

    def _skip_lines(self, following: str) -> None:
        self._held = self._held.lstrip("\n")
        if self._held:
            self._state = following

    def _take_reasoning(self) -> str:
        inside, end, rest = self._held.partition(self._end)
        if end:
            self._held, self._state = rest, "blank after"
            return inside.rstrip("\n")
        certain = self._held[: len(self._held) - undecided(self._held, [self._end])].rstrip("\n")
        self._held = self._held[len(certain) :]
        return certain
