"""Schemas, regular expressions, choices and grammars that a text has to follow."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ryzanstein_llm.structured.output import OutputFormat
from ryzanstein_llm.text.tokenizer import Tokenizer
from ryzanstein_llm.text.vocabulary import Vocabulary

from ..models import small_model
from ..target import Ready, target


def follower(folder: Path, argument: str) -> Callable[[Any], None]:
    """Compiles a value of the argument, and takes twelve tokens that it allows."""
    path = small_model(folder / "model")
    tokenizer = Tokenizer.from_file(path / "tokenizer.json", {})
    vocabulary = Vocabulary(path, 288, tokenizer, (257,), 256)

    def follow(value: Any) -> None:
        form = OutputFormat.from_arguments({argument: value})
        if form is None:
            return
        constraint = form.constraint(vocabulary)
        ids: list[int] = []
        while len(ids) < 12 and not constraint.finished:
            forced = constraint.forced()
            allowed = constraint.allowed()
            if forced is None:
                forced = 65 if allowed is None or allowed[65] else int(allowed.argmax())
            if forced == 257:
                break
            ids.append(forced)
            constraint.follow(ids, 0)

    return follow


@target
def schema(folder: Path) -> Ready:
    """JSON schemas."""
    follow = follower(folder, "schema")
    seeds = [
        {"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}, "b": {
            "type": "string", "pattern": "^[a-z]{2,4}$"}}, "required": ["a"],
            "additionalProperties": False},
        {"$ref": "#/$defs/n", "$defs": {"n": {"type": "object", "properties": {"next": {
            "anyOf": [{"$ref": "#/$defs/n"}, {"type": "null"}]}}}}},
        {"type": "array", "items": {"enum": ["a", 1, None]}, "minItems": 1, "maxItems": 5},
        {"type": "string", "format": "date-time", "minLength": 2},
        {"allOf": [{"type": "number", "multipleOf": 0.5}, {"maximum": 10}]},
    ]  # fmt: skip

    def read(data: bytes) -> None:
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            return
        follow(value)

    words = [
        b'"patternProperties": {"^a": {}}', b'"const": 1', b'"oneOf": [', b'"$ref": "#"',
        b'"prefixItems": [{}]', b'"x-guidance": {"whitespace_flexible": true}', b'"not": {}',
        b'"maxLength": 1000000000', b'"exclusiveMinimum": 0', b'"format": "uuid"',
    ]  # fmt: skip
    return Ready(read, [json.dumps(seed).encode() for seed in seeds], words)


def _texts(folder: Path, argument: str, seeds: list[str], words: list[str]) -> Ready:
    follow = follower(folder, argument)

    def read(data: bytes) -> None:
        follow(data.decode("utf-8", "replace"))

    return Ready(read, [each.encode() for each in seeds], [each.encode() for each in words])


@target
def regex(folder: Path) -> Ready:
    """Regular expressions."""
    seeds = [r"[a-z]+(\d{2,4}|x)*", r"(?i)yes|no", r"\p{L}\s\S.é?", r"a{0,3}(?:b|c)[^\n]\x41"]
    words = [r"{1000}", r"{2,}", r"(?=a)", r"\1", r"\b", r"^", "$", r"\pL", "[^", "(?P<n>", "((("]
    return _texts(folder, "regex", seeds, words)


@target
def grammar(folder: Path) -> Ready:
    """GBNF, and llguidance's Lark."""
    seeds = [
        'root ::= "a" item+ # comment\nitem ::= [a-z0-9] | "\\"" [^"\\x00-\\x1f] "\\n"\n',
        'root ::= (yes | "no"){1,3} ws?\nyes ::= "yes" root*\nws ::= [ \\t\\u00e9]*',
        'start: "a" item+\nitem: /[a-z]+/ | "b"\n%ignore " "\n',
        'start: @sub\nsub[max_tokens=3]: %json {"type": "integer"}\nWORD: /x{1,3}/i\n',
    ]
    words = [
        "::=", ": ", "{2}", "{,}", "|", "\\U0010ffff", "\\x", "[^]", "start", "root ::= root", "%%",
        "%regex {", "<[1]>", "stop=", "%llguidance {}", '"', "/", "(", ")", "\n",
    ]  # fmt: skip
    return _texts(folder, "grammar", seeds, words)


@target
def choices(folder: Path) -> Ready:
    """Lists of texts."""
    follow = follower(folder, "choices")

    def read(data: bytes) -> None:
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            return
        follow(value)

    return Ready(read, [b'["yes", "no"]', '["é\\n", "a[b]*"]'.encode()], [b'"x",', b"\\ud800"])
