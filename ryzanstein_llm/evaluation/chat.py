"""Conversations of tasks as text, with the checkpoint's chat template."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from ..chat.format import choose_template
from ..errors import ChatTemplateError
from ..model import BitNetModel
from ..text.chat_template import ChatTemplate, special_token_texts

__all__ = ["TaskChat"]

log = logging.getLogger(__name__)

MARK = "CONTINUE_FINAL_MESSAGE_TAG "
"""Stands at the end of a message that the model is to continue. transformers has the same mark, so
that templates that look at the end of a message see the same."""

Messages = Sequence[Mapping[str, Any]]


class TaskChat:
    """
    Parameters
    ----------
    model : BitNetModel
    chosen : str or None
        Jinja, or the name of a template of the checkpoint.
    arguments : mapping
        Variables of the template.
    """

    def __init__(
        self, model: BitNetModel, chosen: str | None, arguments: Mapping[str, Any]
    ) -> None:
        self._model, self._chosen, self._arguments = model, chosen, dict(arguments)

    @cached_property
    def source(self) -> str:
        """The source of the template. Raises ChatTemplateError if there is none."""
        model = self._model
        return choose_template(model.vocabulary, model.chat_template, self._chosen, tools=False)

    @cached_property
    def _template(self) -> ChatTemplate:
        tokenizer = self._model.tokenizer
        assert tokenizer is not None
        return ChatTemplate(self.source, special_token_texts(tokenizer.config))

    def text(self, messages: Messages, add_generation_prompt: bool) -> str:
        """The text of a conversation. If the template refuses it, system messages are left out and
        a log message says so, as in lm-eval."""
        try:
            return self._render(messages, add_generation_prompt)
        except ChatTemplateError as error:
            others = [message for message in messages if message["role"] != "system"]
            if len(others) == len(messages):
                raise
            log.warning("system messages are left out, because %s", error)
            return self._render(others, add_generation_prompt)

    def _render(self, messages: Messages, add_generation_prompt: bool) -> str:
        if add_generation_prompt:
            return self._template.render(messages, **self._arguments)
        # the model goes on within the last message, so what the template puts after it is cut off
        *before, last = messages
        marked = {**last, "content": f"{last['content']}{MARK}"}
        text = self._template.render(
            [*before, marked], add_generation_prompt=False, **self._arguments
        )
        end = text.rfind(MARK.strip())
        if end < 0:
            raise ChatTemplateError("the chat template does not show the end of the last message")
        return text[:end] if text[end:].startswith(MARK) else text[:end].rstrip()
