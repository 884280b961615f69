"""What a `tokenizer.json` may say. The `tokenizers` library believes the file: some values make it
take memory without end, and then it ends the process; others make its Rust code panic, which it
prints. They are refused before it reads them. No tokenizer that works has one.

The library also reads lists where it writes objects. They are refused too, so that a value has one
place."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..errors import FormatError
from ..formats.json_file import without_duplicates
from .growth import charsmap_bytes, growth

__all__ = ["LARGEST_ID", "MOST_ADDED_IDS", "MOST_GROWTH", "check_tokenizer"]

LARGEST_ID = (1 << 22) - 1
"""The library makes lists that are as long as the largest id. The largest vocabularies of released
models have about a million tokens."""

MOST_ADDED_IDS = 1024
"""Ids that a post-processor may add to a text; of released models, one to three."""

PARTS = ("normalizer", "pre_tokenizer", "post_processor", "decoder")

MOST_GROWTH = 256
"""Characters that may become of one. Released tokenizers replace a space by another character, or a
line break by a word, and byte-level ones have up to four characters for one."""


def check_tokenizer(text: str, source: str) -> None:
    """Refuse what would end the process.

    Parameters
    ----------
    text : str
        The content of a `tokenizer.json`.
    source : str
        The file, for messages.

    Raises
    ------
    FormatError
        Names the field and its value. What only makes the library raise an error is left to it.
    ValueError, RecursionError
        The text is not JSON, or is nested too deeply.
    """
    spec = json.loads(text, object_pairs_hook=_object)
    try:
        if isinstance(spec, Mapping):
            _check_ids(spec)
            _check_merges(_mapping(spec.get("model")))
            for name in PARTS:
                for step in _steps(spec, name):
                    _check_step(name, step)
            _check_growth(spec, "normalizer", "pre_tokenizer")
            _check_growth(spec, "decoder")
    except _RefusedError as refused:
        raise FormatError(f"{source}: {refused}") from None


class _RefusedError(ValueError):
    pass


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of a key that is given twice, the library may read the other one. Not so in a vocabulary."""
    found = dict(pairs)
    if len(found) == len(pairs) or all(type(value) is int for _, value in pairs):
        return found
    return without_duplicates(pairs)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _steps(spec: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    """The steps of a part of the tokenizer, in order. One that contains others comes after them."""
    part = spec.get(name)
    if part is not None:
        yield from _flat(_object_of(part, name), name)


def _flat(step: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    if not isinstance(step.get("type"), str):
        raise _RefusedError(f"{name}: a step has no type")
    for key in ("normalizers", "pretokenizers", "processors", "decoders"):
        for each in _list(step.get(key)):
            yield from _flat(_object_of(each, name), name)
    yield step


def _object_of(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _RefusedError(f"{where} holds {str(value)[:100]!r} in the place of an object")
    return value


def _check_ids(spec: Mapping[str, Any]) -> None:
    vocab = _mapping(_mapping(spec.get("model")).get("vocab"))
    added = [_mapping(token) for token in _list(spec.get("added_tokens"))]
    for where, tokens, ids in (
        ("model.vocab", list(vocab), list(vocab.values())),
        ("added_tokens", [token.get("content") for token in added], [t.get("id") for t in added]),
    ):
        try:
            largest = max(ids, default=0)
        except TypeError:  # not all are numbers, and the library says which
            continue
        if largest > LARGEST_ID:
            token = str(tokens[ids.index(largest)])[:200]
            raise _RefusedError(
                f"{where}: the id of {token!r} is {largest}, more than {LARGEST_ID}"
            )


def _check_merges(model: Mapping[str, Any]) -> None:
    """The library cuts the prefix off the second piece without looking whether it has one."""
    prefix = model.get("continuing_subword_prefix")
    if not prefix or not isinstance(prefix, str):
        return
    for index, merge in enumerate(_list(model.get("merges"))):
        pieces = merge.split(" ") if isinstance(merge, str) else _list(merge)
        if len(pieces) == 2 and not str(pieces[1]).startswith(prefix):
            raise _RefusedError(
                f"model.merges[{index}] is {merge!r}, whose second piece does not begin with the "
                f"continuing_subword_prefix {prefix!r}"
            )


def _check_step(name: str, step: Mapping[str, Any]) -> None:
    kind = step.get("type")
    if kind == "FixedLength" and step.get("length") == 0:
        raise _RefusedError(f"{name}: the length of FixedLength is 0")
    if kind == "Precompiled" and not _is_charsmap(step.get("precompiled_charsmap")):
        raise _RefusedError(f"{name}: the precompiled_charsmap of Precompiled is damaged")
    if kind == "TemplateProcessing":
        _check_template(f"{name}: single", step)


def _is_charsmap(value: Any) -> bool:
    """Whether it is Base64 of the size of a trie, the trie, and text in UTF-8, or not ours to say.
    What the trie holds is not looked at."""
    if not isinstance(value, str):
        return True
    try:
        data = charsmap_bytes(value)
        end = 4 + int.from_bytes(data[:4], "little") // 4 * 4
        data[end:].decode("utf-8")
    except ValueError:
        return False
    return 4 <= end <= len(data)


def _check_template(where: str, step: Mapping[str, Any]) -> None:
    """What is added to one text. Nothing here makes a pair of texts."""
    known = _object_of(step.get("special_tokens") or {}, where)
    texts, ids = 0, 0
    for piece in _list(step.get("single")):
        piece = {kind: _object_of(of, where) for kind, of in _object_of(piece, where).items()}
        name = _mapping(piece.get("SpecialToken")).get("id")
        if isinstance(name, str):
            if name not in known:
                raise _RefusedError(f"{where} names {name[:200]!r}, which is not in special_tokens")
            ids += len(_list(_object_of(known[name], where).get("ids")))
        text = _mapping(piece.get("Sequence")).get("id")
        texts += text == "A"
        if text == "B":
            raise _RefusedError(f"{where} has the sequence 'B', but there is one text")
    if texts > 1:
        raise _RefusedError(f"{where} has the text {texts} times")
    if ids > MOST_ADDED_IDS:
        raise _RefusedError(f"{where} adds {ids} ids to a text, more than {MOST_ADDED_IDS}")


def _check_growth(spec: Mapping[str, Any], *names: str) -> None:
    steps = [step for name in names for step in _steps(spec, name)]
    found = growth(steps, decoder=names == ("decoder",), most=MOST_GROWTH)
    if found > MOST_GROWTH:
        raise _RefusedError(
            f"{' and '.join(names)}: one character may become {found:.0f} or more, and at most "
            f"{MOST_GROWTH} are allowed"
        )
