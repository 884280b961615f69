"""From `tokenizer.json` to the metadata of a GGUF file: the way back of gguf_tokenizer.py.

What GGUF has no key for is refused, so that the tokenizer of the file gives the same ids.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from tokenizers import Tokenizer as RawTokenizer

from ..errors import ConversionError
from .gguf_tokenizer import build_tokenizer, end_ids
from .gguf_vocabulary import BYTE, CONTROL, NORMAL, PREFIX, UNKNOWN, UNUSED, USER_DEFINED
from .library import LibraryErrors
from .pretokenizers import GPT2_PATTERN, PRETOKENIZERS

__all__ = ["tokenizer_metadata"]

END_KEYS = ("eos", "eot", "eom")


def tokenizer_metadata(
    raw: RawTokenizer,
    source: str,
    *,
    size: int,
    bos_id: int | None,
    eos_ids: tuple[int, ...],
    chat_template: str | None,
) -> dict[str, Any]:
    """The keys of `tokenizer.ggml` for a tokenizer, and `tokenizer.chat_template`.

    Parameters
    ----------
    raw : tokenizers.Tokenizer
    source : str
        Its file, for messages.
    size : int
        Rows of the embedding. Ids without a token get `[PAD<id>]`.
    bos_id : int or None
        The token that a text begins with, if one is added.
    eos_ids : tuple of int
        Tokens that end a text, the tokenizer's own first.
    chat_template : str or None

    Raises
    ------
    ConversionError
        The algorithm, the pre-tokenizer or another part has no name in GGUF, or the tokenizer of
        the file would not be the same.
    """
    with LibraryErrors(source):  # as the library writes it: files may leave out and abbreviate
        spec = json.loads(raw.to_str())
    writer = _Writer(spec, source)
    found: dict[str, Any] = {**writer.algorithm(), **writer.tokens(size)}
    with LibraryErrors(source):
        plain = raw.encode("a", add_special_tokens=False).ids
        whole = raw.encode("a").ids
    before = whole[: len(whole) - len(plain)] if whole[-len(plain) :] == plain else whole[:1]
    after = whole[len(before) + len(plain) :]
    if before and bos_id is None:
        bos_id = before[0]
    if before not in ([], [bos_id]) or after not in ([], list(eos_ids[:1])):
        raise writer.refuse(f"what it adds to a text, {before} and {after}, is not one BOS or EOS")
    found |= {"add_bos_token": bool(before), "add_eos_token": bool(after)}
    if bos_id is not None:
        found["bos_token_id"] = bos_id
    found |= {f"{kind}_token_id": one for kind, one in zip(END_KEYS, eos_ids, strict=False)}
    metadata = {PREFIX + key: value for key, value in found.items()}
    if chat_template is not None:
        metadata["tokenizer.chat_template"] = chat_template
    lost = set(eos_ids) - set(end_ids(metadata, source))
    if lost:
        raise writer.refuse(f"{len(eos_ids)} tokens end a text, and GGUF has keys for three")
    writer.check(build_tokenizer(metadata, source))
    return metadata


class _Writer:
    def __init__(self, spec: Mapping[str, Any], source: str) -> None:
        self._spec, self._source = spec, source
        self._model: Mapping[str, Any] = spec["model"]
        if self._model.get("type") != "BPE":
            raise self.refuse(f"its model is {self._model.get('type')!r}, and not BPE")
        for key in ("continuing_subword_prefix", "end_of_word_suffix"):
            if self._model.get(key):
                raise self.refuse(f"its {key} is {self._model[key]!r}")
        self._merges = [
            tuple(merge.split(" ", 1)) if isinstance(merge, str) else tuple(merge)
            for merge in self._model["merges"]
        ]
        self._added: dict[int, Mapping[str, Any]] = {
            token["id"]: token for token in spec.get("added_tokens") or ()
        }
        for token in self._added.values():
            for key in ("lstrip", "rstrip", "single_word"):
                if token.get(key):
                    raise self.refuse(f"its token {token['content']!r} has {key}")
        self._pieces = bool(self._model.get("byte_fallback"))

    def refuse(self, what: str) -> ConversionError:
        return ConversionError(
            f"{self._source}: {what}, which the metadata of a GGUF file cannot say; convert with "
            "tokenizer=False (--without-tokenizer) for a file of ids only"
        )

    def algorithm(self) -> dict[str, Any]:
        """`model`, and how texts are cut."""
        if self._pieces:
            return self._sentencepiece()
        name = self._pre_tokenizer()
        merges = [" ".join(merge) for merge in self._merges]
        return {"model": "gpt2", "pre": name, "merges": merges}

    def _pre_tokenizer(self) -> str:
        patterns = self._patterns()
        whole = bool(self._model.get("ignore_merges"))
        normalizer = self._spec.get("normalizer")
        nfc = normalizer == {"type": "NFC"}
        if normalizer is not None and not nfc:
            raise self.refuse(f"its normalizer is {normalizer.get('type')!r}")
        for name, words in PRETOKENIZERS.items():
            if (words.patterns, words.whole_words, words.nfc) == (patterns, whole, nfc):
                return name
        raise self.refuse("its pre-tokenizer has no known name (tokenizer.ggml.pre)")

    def _patterns(self) -> tuple[str, ...]:
        """The expressions of a chain that ends in ByteLevel."""
        pre: Mapping[str, Any] = self._spec.get("pre_tokenizer") or {}
        steps = pre.get("pretokenizers", [pre])
        patterns: list[str] = []
        for step in steps[:-1]:
            pattern = (step.get("pattern") or {}).get("Regex")
            if step.get("type") == "Digits" and step.get("individual_digits"):
                pattern = r"\p{N}"
            elif (
                step.get("type") != "Split" or step.get("behavior") != "Isolated"
                or step.get("invert") or pattern is None
            ):  # fmt: skip
                raise self.refuse(f"its pre-tokenizer has a step {step.get('type')!r}")
            patterns.append(pattern)
        if not steps:
            raise self.refuse("its pre-tokenizer has no steps")
        last = steps[-1]
        if last.get("type") != "ByteLevel" or last.get("add_prefix_space"):
            raise self.refuse(f"its pre-tokenizer ends in {last.get('type')!r}")
        return (*patterns, GPT2_PATTERN) if last.get("use_regex", True) else tuple(patterns)

    def _sentencepiece(self) -> dict[str, Any]:
        replace = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
        normalizer = self._spec.get("normalizer") or {}
        steps = normalizer.get("normalizers", [normalizer])
        prefixed = steps[:1] == [{"type": "Prepend", "prepend": "\u2581"}]
        if steps[prefixed:] != [replace] or self._spec.get("pre_tokenizer") is not None:
            raise self.refuse("how it replaces spaces is not that of SentencePiece")
        found: dict[str, Any] = {"model": "llama", "add_space_prefix": bool(prefixed)}
        unknown = self._model.get("unk_token")
        if unknown is not None:
            if unknown not in self._model["vocab"]:
                raise self.refuse(f"its unknown token {unknown!r} is not in its vocabulary")
            found["unknown_token_id"] = self._model["vocab"][unknown]
        return found

    def _scores(self) -> list[float]:
        """For each token minus its place among the results of merges; others come after these."""
        results = list(dict.fromkeys("".join(merge) for merge in self._merges))
        place = {piece: -float(index) for index, piece in enumerate(results)}
        last = -float(len(results))
        return [place.get(token, last) for token in self._by_id()]

    def _by_id(self) -> list[str]:
        vocab: Mapping[str, int] = self._model["vocab"]
        return sorted(vocab, key=vocab.__getitem__)

    def tokens(self, size: int) -> dict[str, Any]:
        """`tokens` and `token_type` of all ids."""
        found = {number: token for token, number in self._model["vocab"].items()}
        found |= {number: token["content"] for number, token in self._added.items()}
        if max(found) >= size:
            raise self.refuse(f"it has the id {max(found)}, and the model has {size} rows")
        if self._pieces and sorted(self._model["vocab"].values()) != list(
            range(len(self._model["vocab"]))
        ):
            raise self.refuse("its ids have gaps")
        tokens = [found.get(number, f"[PAD{number}]") for number in range(size)]
        types = [self._type(number, token) for number, token in enumerate(tokens)]
        missing = [number for number in range(size) if number not in found]
        for number in missing:
            types[number] = UNUSED
        extra: dict[str, Any] = {}
        if self._pieces:
            scores = self._scores()
            extra["scores"] = np.array(
                scores + [-float(len(scores))] * (size - len(scores)), np.float32
            )
        return {"tokens": tokens, "token_type": np.array(types, np.int32), **extra}

    def _type(self, number: int, token: str) -> int:
        if token == self._model.get("unk_token"):
            return UNKNOWN
        if number in self._added:
            return CONTROL if self._added[number].get("special") else USER_DEFINED
        if self._pieces and len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            return BYTE
        return NORMAL

    def check(self, rebuilt: RawTokenizer) -> None:
        """Refuse scores that do not stand for the same merges."""
        if not self._pieces:
            return
        merges = [tuple(merge) for merge in json.loads(rebuilt.to_str())["model"]["merges"]]
        mine, theirs = self._merges, merges
        same_pairs = set(mine) == set(theirs)
        order = [list(dict.fromkeys("".join(merge) for merge in each)) for each in (mine, theirs)]
        if not same_pairs or order[0] != order[1]:
            raise self.refuse("its merges do not follow from scores of tokens")
