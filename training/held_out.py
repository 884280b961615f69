"""Which part of the texts is held out when no file is named for it.

The texts are divided into blocks of whole paragraphs. Each block has a number that follows from
its text alone, and the blocks with the lowest numbers are held out until they are a twentieth of
all. So they come from everywhere in the texts; runs with other seeds, teachers and students hold
out the same; and texts that are added later change the choice little.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

__all__ = ["hold_out", "without_repeats"]

SHARE = 0.05
"""Of the characters of all texts; the last block may go beyond it."""

AT_MOST = 0.1
"""A block that would go beyond this share is trained on."""

BLOCK = 4000
"""Characters a block has at least, if its file has so many: two contexts of 512 tokens."""

BLOCKS = 40
"""A small corpus is divided into about so many, or it would have no twentieth."""

REPEATED = 80
"""Characters from which a paragraph that occurs twice is a copy. Shorter ones, such as "Yes.",
occur twice anyway."""


def hold_out(texts: Mapping[str, str]) -> tuple[dict[str, str], list[str]] | None:
    """Divide texts into what is trained on and what is held out.

    Parameters
    ----------
    texts : dict of str to str
        By name; a paragraph a line, each with its newline.

    Returns
    -------
    training : dict of str to str
        The texts without the held-out blocks.
    held_out : list of str
        The blocks, in the order of the texts.

    None if the texts have too few paragraphs, or nearly all of the text is in one of them.
    """
    total = sum(map(len, texts.values()))
    size = min(BLOCK, total // BLOCKS)
    blocks = [(name, block) for name, text in texts.items() for block in _blocks(text, size)]
    chosen: set[int] = set()
    held = 0
    for index in sorted(range(len(blocks)), key=lambda index: _number(blocks[index][1])):
        length = len(blocks[index][1])
        if held >= SHARE * total:
            break
        if held + length <= AT_MOST * total:
            chosen.add(index)
            held += length
    if not chosen or held < SHARE / 2 * total:
        return None
    parts: dict[str, list[str]] = {name: [] for name in texts}
    for index, (name, block) in enumerate(blocks):
        if index not in chosen:
            parts[name].append(block)
    training = {name: "".join(kept) for name, kept in parts.items()}
    return training, [blocks[index][1] for index in sorted(chosen)]


def without_repeats(text: str, held_out: str) -> str:
    """`text` without paragraphs of `REPEATED` characters or more that are held out, too."""
    known = {line for line in held_out.splitlines() if len(line) >= REPEATED}
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if line.rstrip("\n") not in known)


def _blocks(text: str, size: int) -> Iterator[str]:
    """Runs of whole paragraphs, each of `size` characters or more; the last may be shorter."""
    lines: list[str] = []
    length = 0
    for line in text.splitlines(keepends=True):
        lines.append(line)
        length += len(line)
        if length >= size:
            yield "".join(lines)
            lines, length = [], 0
    if lines:
        yield "".join(lines)


def _number(block: str) -> int:
    digest = hashlib.blake2b(block.encode(), digest_size=8, person=b"held out").digest()
    return int.from_bytes(digest, "big")
