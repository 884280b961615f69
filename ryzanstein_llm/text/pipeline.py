"""Token strings to text, one token at a time.

A `tokenizer.json` names a *decoder*: the recipe that turns a list of token
strings into text. The recipes of real checkpoints look at the whole list (the
bytes of one character may be in several tokens, the first space is dropped, a run
of byte tokens is judged as a whole). So tokens cannot be decoded one by one, and
decoding everything again for each token costs O(n²). `TextPipeline` runs the same
recipe as a chain of small stages. Each stage passes a string on as soon as no later
token can change it::

    ''.join(pipeline.push(t) for t in tokens) + pipeline.flush() == decoder.decode(tokens)

for every list of tokens, valid text or not. Sliding windows (decode a window with
and without the new token, return the difference) do not have this property, and
neither has `tokenizers.decoders.DecodeStream`: they wait until the replacement
character U+FFFD goes away, which never happens for invalid bytes.

A text may continue another one. Then only what is new comes out, and what depends on the text
before, such as a first space or the bytes of a character that has begun, is as it would be in one
text.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterable, Mapping
from itertools import takewhile
from typing import Any

from tokenizers import Tokenizer as RawTokenizer
from tokenizers.decoders import Decoder

__all__ = ["BYTE_ALPHABET", "TextPipeline", "is_byte", "token_bytes"]

Spec = Mapping[str, Any]


class Stage:
    """One step of a decoder: takes tokens, and returns those that are now certain."""

    def push(self, token: str) -> list[str]:
        raise NotImplementedError

    def flush(self) -> list[str]:
        return []

    def resume(self) -> list[str]:
        """All that was pushed belongs to the text before. Returns what `flush` would."""
        return []


class TextPipeline:
    """The incremental form of one decoder. Make a new one for each text.

    Parameters
    ----------
    spec : mapping or None
        The `decoder` entry of `tokenizer.json`. None joins tokens with a space,
        as the `tokenizers` library does.
    before : iterable of str
        The last tokens of the text that this one continues.
    """

    def __init__(self, spec: Spec | None, before: Iterable[str] = ()) -> None:
        self._stages = _build_stages(spec)
        for token in before:
            self.push(token)
        for index, stage in enumerate(self._stages):
            self._run(stage.resume(), index + 1)

    def push(self, token: str) -> str:
        """The text that is certain once `token` is known. May be empty."""
        return "".join(self._run([token], 0))

    def flush(self) -> str:
        """The rest of the text. Call it once, after the last token."""
        text = ""
        for index, stage in enumerate(self._stages):
            text += "".join(self._run(stage.flush(), index + 1))
        return text

    def _run(self, tokens: list[str], first_stage: int) -> list[str]:
        for stage in self._stages[first_stage:]:
            if not tokens:
                break
            tokens = [out for token in tokens for out in stage.push(token)]
        return tokens


class _Each(Stage):
    """A decoder that treats each token alone; `first` says whether it is the first one."""

    def __init__(self, function: Callable[[str, bool], str]) -> None:
        self._function = function
        self._first = True

    def push(self, token: str) -> list[str]:
        first, self._first = self._first, False
        return [self._function(token, first)]


class _Bytes(Stage):
    """`ByteLevel`: characters of a token stand for bytes, and the bytes of all tokens are UTF-8.

    Rust's `from_utf8_lossy` and Python's `errors="replace"` give the same U+FFFD: one
    for each longest prefix of a valid sequence.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._begun = False  # whether the text before ends within a character, given as U+FFFD

    def push(self, token: str) -> list[str]:
        return self._give(self._decoder.decode(_token_bytes(token)))

    def flush(self) -> list[str]:
        return self._give(self._decoder.decode(b"", True))

    def resume(self) -> list[str]:
        self._begun = bool(self._decoder.getstate()[0])
        return ["\ufffd"] if self._begun else []

    def _give(self, text: str) -> list[str]:
        if text and self._begun:
            self._begun = False
            text = text.removeprefix("\ufffd")
        return [text] if text else []


# The library parses the two digits with a function that also accepts a plus sign.
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2}|\+[0-9A-Fa-f])>")


def is_byte(token: str) -> bool:
    """Whether `ByteFallback` takes a token for one byte."""
    return _BYTE_TOKEN.fullmatch(token) is not None


class _ByteFallback(Stage):
    """`ByteFallback`: a run of tokens such as `<0xE2>` is one string of bytes.

    If the run as a whole is not UTF-8, each of its bytes becomes U+FFFD. So nothing
    is certain before the run has ended.
    """

    def __init__(self) -> None:
        self._run = bytearray()
        self._before = 0  # how many bytes of the run belong to the text before

    def push(self, token: str) -> list[str]:
        byte = _BYTE_TOKEN.fullmatch(token)
        if byte is None:
            return [*self.flush(), token]
        self._run.append(int(byte[1], 16))
        return []

    def flush(self) -> list[str]:
        run, before = bytes(self._run), self._before
        self._run.clear()
        self._before = 0
        try:
            text = run.decode("utf-8")
            # of the character in which the text before ends, no part has been given as such
            text = text[len(run[:before].decode("utf-8", "ignore")) :]
        except UnicodeDecodeError:
            return ["\ufffd"] * (len(run) - before)
        return [text] if text else []

    def resume(self) -> list[str]:
        run = self._run.copy()
        given = self.flush()
        self._run, self._before = run, len(run)
        return given


class _StripStart(Stage):
    """`Strip` of the joined text: up to `count` leading `content` characters are dropped."""

    def __init__(self, content: str, count: int) -> None:
        self._content = content
        self._left = count

    def push(self, token: str) -> list[str]:
        while self._left and token:
            if not token.startswith(self._content):
                self._left = 0
                break
            token = token[len(self._content) :]
            self._left -= 1
        return [token] if token else []


class _Hold(Stage):
    """Any other decoder. The text is exact, but all of it comes after the last token."""

    def __init__(self, decoder: Decoder, joined: bool) -> None:
        self._decoder = decoder
        self._joined = joined
        self._tokens: list[str] = []
        self._given = ""

    def push(self, token: str) -> list[str]:
        self._tokens.append(token)
        return []

    def flush(self) -> list[str]:
        text = self._decode()
        same = takewhile(lambda pair: pair[0] == pair[1], zip(self._given, text, strict=False))
        return [text[len(list(same)) :]]

    def resume(self) -> list[str]:
        self._given = self._decode() if self._tokens else ""
        return []

    def _decode(self) -> str:
        text: str = self._decoder.decode(["".join(self._tokens)] if self._joined else self._tokens)
        return text


def _build_stages(spec: Spec | None) -> list[Stage]:
    if spec is None:
        return [_Each(lambda token, first: token if first else " " + token)]
    steps = _flatten(spec)
    stages: list[Stage] = []
    joined = False  # after `Fuse` or `ByteLevel`, all text is one token that comes in fragments
    for index, step in enumerate(steps):
        kind = step["type"]
        if kind == "Fuse":
            joined = True
        elif kind == "ByteLevel" and not joined:
            stages.append(_Bytes())
            joined = True
        elif kind == "ByteFallback" and not joined:
            stages.append(_ByteFallback())
        elif kind in ("Replace", "Strip") and not joined:
            stages.append(_Each(_alone(step)))
        elif kind in ("Metaspace", "WordPiece") and not joined:
            stages.append(_Each(_by_position(step)))
        elif kind == "Strip" and not step["stop"]:
            stages.append(_StripStart(step["content"], step["start"]))
        else:
            rest = {"type": "Sequence", "decoders": steps[index:]}
            stages.append(_Hold(_library_decoder(rest), joined))
            break
    return stages


def _flatten(spec: Spec) -> list[Spec]:
    if spec["type"] != "Sequence":
        return [spec]
    return [step for inner in spec["decoders"] for step in _flatten(inner)]


def _alone(step: Spec) -> Callable[[str, bool], str]:
    decode = _library_decoder(step).decode
    return lambda token, first: decode([token])


def _by_position(step: Spec) -> Callable[[str, bool], str]:
    # An empty token in front adds no text, but makes `token` the second one.
    decode = _library_decoder(step).decode
    return lambda token, first: decode([token] if first else ["", token])


def _library_decoder(spec: Spec) -> Decoder:
    """The `tokenizers` object for a decoder entry. Only whole tokenizers can be parsed publicly."""
    shell = {
        "version": "1.0",
        "added_tokens": [],
        "model": {"type": "BPE", "vocab": {}, "merges": []},
        "decoder": spec,
    }
    decoder: Decoder = RawTokenizer.from_str(json.dumps(shell)).decoder
    return decoder


def token_bytes(spec: Spec | None, token: str) -> bytes:
    """The bytes that one token stands for within a text: part of a character, for some."""
    kinds = {step["type"] for step in _flatten(spec)} if spec is not None else set()
    if "ByteLevel" in kinds:
        return _token_bytes(token)
    byte = _BYTE_TOKEN.fullmatch(token) if "ByteFallback" in kinds else None
    if byte is not None:
        return bytes([int(byte[1], 16)])
    pipeline = TextPipeline(spec, ["a"])  # not the first token, which may lose a space
    return (pipeline.push(token) + pipeline.flush()).encode("utf-8")


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's alphabet: printable Latin-1 stands for itself, the other bytes for U+0100 and up."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    alphabet.update({chr(0x100 + index): byte for index, byte in enumerate(others)})
    return alphabet


BYTE_ALPHABET = _byte_alphabet()


def _token_bytes(token: str) -> bytes:
    try:
        return bytes([BYTE_ALPHABET[character] for character in token])
    except KeyError:  # an added token such as "two words" is plain text
        return token.encode("utf-8")
