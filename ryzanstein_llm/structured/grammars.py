"""From schemas, regular expressions, choices and grammars to the grammars of llguidance."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

from ..errors import InvalidParameterError, MissingExtraError
from .multiples import refuse_large_multiples

__all__ = [
    "choices_grammar",
    "json_grammar",
    "llguidance",
    "regex_grammar",
    "without_added_lines",
    "written_grammar",
]

JSON_OPTIONS = {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":"}
"""No white space between the parts of a JSON text, so that no model writes blanks without end. A
schema may say otherwise with the key "x-guidance"."""

NO_FORCING = '%llguidance {"no_forcing": true}'
"""In a written grammar something may have to follow without end, as in `start: "a" start`, and
llguidance would collect all of it before the first token. The last of such lines counts."""

_ADDED_TO_GRAMMAR = re.compile(rf"\n *\d+ \| *{re.escape(NO_FORCING)}.*", re.S)
_MADE_OF_REGEX = re.compile(r"\n *1 \| start: .*", re.S)

_SCHEMA = re.compile(r"%json\s*")
_GBNF_RULE = re.compile(r"^\s*[\w-]+\s*::=", re.M)
_GBNF_CHARACTER = re.compile(r"\\(\\|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})")
_SURROGATE = re.compile("[\ud800-\udfff]")


def llguidance() -> ModuleType:
    """The library.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    try:
        import llguidance
    except ImportError as error:
        raise MissingExtraError(
            "schema, regex, choices and grammar need llguidance: "
            'pip install "ryzanstein_llm[structured]"'
        ) from error
    found: ModuleType = llguidance
    return found


def json_grammar(name: str, schema: Mapping[str, Any]) -> str:
    """The grammar of JSON texts that a schema accepts, without white space between their parts."""
    options = schema.get("x-guidance", {})
    if isinstance(options, Mapping):  # of anything else llguidance says what is wrong
        # within the schema, since Python's own code would convert a dict of `defaults`: Ctrl-C
        # there becomes a ValueError
        schema = {**schema, "x-guidance": {**JSON_OPTIONS, **options}}
    try:
        written = json.dumps(schema)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidParameterError(f"is no JSON: {error}", name) from None
    refuse_large_multiples(name, schema)
    try:
        grammar: str = llguidance().LLMatcher.grammar_from_json_schema(written)
    except ValueError as error:
        raise InvalidParameterError(f"is not valid: {error}", name) from None
    return grammar


def regex_grammar(name: str, pattern: Any) -> str:
    """The grammar of texts that match a regular expression from beginning to end."""
    grammar: str = llguidance().LLMatcher.grammar_from_regex(_check_text(name, pattern))
    return grammar


def choices_grammar(name: str, choices: Any) -> str:
    """The grammar of a few texts."""
    if isinstance(choices, (str, bytes, Mapping)) or not isinstance(choices, Sequence):
        raise InvalidParameterError(f"must be a sequence of str, not {choices!r}", name)
    if not choices:
        raise InvalidParameterError("must hold at least one str", name)
    texts = [_check_text(f"{name}[{index}]", choice) for index, choice in enumerate(choices)]
    return regex_grammar(name, "|".join(map(_literal, texts)))


def written_grammar(name: str, text: Any) -> str:
    """A grammar in llguidance's Lark, or in GBNF, which is translated: it has `::=`."""
    lark = _check_text(name, text)
    if _GBNF_RULE.search(lark):
        lark = _from_gbnf(name, lark)
    for schema in _schemas_within(lark):
        refuse_large_multiples(name, schema)
    grammar: str = llguidance().LLMatcher.grammar_from_lark(f"{lark}\n{NO_FORCING}\n")
    return grammar


def without_added_lines(problem: str, argument: str) -> str:
    """A message of llguidance, without the lines of its excerpt that the user did not write."""
    pattern = _MADE_OF_REGEX if argument == "regex" else _ADDED_TO_GRAMMAR
    return pattern.sub("", problem.strip())


def _schemas_within(lark: str) -> Iterator[Any]:
    """What stands behind `%json`, if it is JSON; otherwise llguidance says what is wrong."""
    for begin in _SCHEMA.finditer(lark):
        try:
            yield json.JSONDecoder().raw_decode(lark, begin.end())[0]
        except (ValueError, RecursionError):
            continue


def _from_gbnf(name: str, text: str) -> str:
    llguidance()
    from llguidance.gbnf_to_lark import gbnf_to_lark

    try:
        lark: str = gbnf_to_lark(_GBNF_CHARACTER.sub(_character, text))
    except Exception as error:  # it raises Exception itself, too
        raise InvalidParameterError(f"is not valid GBNF: {error}", name) from None
    return lark


def _character(escape: re.Match[str]) -> str:
    """The character that an escape of GBNF stands for, if it can stand for itself."""
    code = escape[1]
    if code == "\\":
        return escape[0]
    number = int(code[1:], 16)
    plain = 0xA0 <= number < 0xD800 or 0xE000 <= number < 0x110000 or chr(number % 128).isalnum()
    return chr(number) if plain and number < 0x110000 else escape[0]


def _literal(text: str) -> str:
    """A regular expression for exactly this text."""
    return "".join(
        each if each.isascii() and each.isalnum() else f"\\x{{{ord(each):x}}}" for each in text
    )


def _check_text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidParameterError(f"must be a str, not {value!r}", name)
    if not value:
        raise InvalidParameterError("must not be empty", name)
    surrogate = _SURROGATE.search(value)
    if surrogate is not None:
        raise InvalidParameterError(f"has the lone surrogate {surrogate[0]!a}", name)
    return value
