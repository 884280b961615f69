"""What is refused, and when: before any work, with the name that the caller used."""

from __future__ import annotations

import pickle
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from extras import needs_extra
from small_model import write_small_model

from ryzanstein_llm import BitNetModel, GenerationResult
from ryzanstein_llm.errors import (
    IncompleteOutputError,
    InvalidParameterError,
    MissingExtraError,
    TokenizerMissingError,
    UnsupportedFeatureError,
)
from ryzanstein_llm.structured.constraint import GrammarConstraint

needs_extra("structured", "llguidance")

TALE = "Once upon a time"


@pytest.fixture(scope="module")
def model() -> Iterator[BitNetModel]:
    with BitNetModel() as model:
        yield model


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"schema": {"type": "foo"}}, "schema is not valid: Invalid type: foo"),
    ({"schema": {"type": "string", "pattern": "("}}, "schema is not valid: regex parse error"),
    ({"schema": {"enum": []}}, "schema is not valid: Unsatisfiable schema"),
    ({"schema": {"type": "array", "uniqueItems": True}}, 'Unimplemented keys: ["uniqueItems"]'),
    ({"schema": {"propertyNames": {"pattern": "a"}, "type": "object"}}, "propertyNames"),
    ({"schema": {"$ref": "#/nope"}}, "schema is not valid: Pointer '/nope' does not exist"),
    ({"schema": {"$ref": "https://example.org/a"}}, "does not fetch"),
    ({"schema": {"const": {1}}}, "schema is no JSON"),
    ({"schema": "{}"}, "schema must be a JSON schema as a dict"),
    ({"schema": True}, "schema must be a JSON schema as a dict"),
    ({"schema": {"x-guidance": {"whitespace_flexible": 3}}}, "schema is not valid"),
    ({"regex": "("}, "regex is not valid"),
    ({"regex": "(?=a)b"}, "look-around"),
    ({"regex": r"(a)\1"}, "backreferences are not supported"),
    ({"regex": ""}, "regex must not be empty"),
    ({"regex": re.compile("a")}, "regex must be a str, not re.compile('a')"),
    ({"regex": "\ud800"}, r"regex has the lone surrogate '\ud800'"),
    ({"choices": "yes"}, "choices must be a sequence of str, not 'yes'"),
    ({"choices": {"yes": 1}}, "choices must be a sequence of str"),
    ({"choices": 3}, "choices must be a sequence of str, not 3"),
    ({"choices": []}, "choices must hold at least one str"),
    ({"choices": ["yes", 3]}, "choices[1] must be a str, not 3"),
    ({"choices": ["yes", ""]}, "choices[1] must not be empty"),
    ({"grammar": "start: x"}, 'grammar is not valid: at 1(8): unknown name: "x"'),
    ({"grammar": "hello"}, "grammar is not valid"),
    ({"grammar": 'root ::= "a" )'}, "grammar is not valid GBNF"),
    ({"grammar": 'root ::= other'}, "grammar is not valid GBNF: Rule 'other' not found"),
    ({"grammar": 'a ::= "a"'}, "grammar is not valid GBNF: No 'root' rule found"),
    ({"grammar": ["a"]}, "grammar must be a str, not ['a']"),
    ({"schema": {}, "regex": "a"}, "regex cannot be given together with schema"),
    ({"choices": ["a"], "grammar": "start: x"}, "grammar cannot be given together with choices"),
    ({"regex": "a", "ignore_eos": True}, "ignore_eos must be False with regex"),
    (
        {"regex": "a", "overflow": "shift"},
        "overflow must be 'error' or 'truncate' with regex, not 'shift'",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({"grammar": 'start: "a'}, 'start: "a'),
        ({"grammar": 'start: x\nx: "b'}, 'start: x\nx: "b'),
        ({"regex": "("}, "("),
        ({"regex": "a(?=b)"}, "a(?=b)"),
    ],
)
def test_an_error_shows_only_lines_that_the_user_wrote(
    model: BitNetModel, options: dict[str, Any], shown: str
) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        model.generate(TALE, **options)
    said = str(caught.value)
    assert not re.search(r"llguidance|no_forcing|start: /", said)
    assert re.findall(r"^ *\d+ \| (.*)$", said, re.M) == (
        shown.split("\n") if "grammar" in options else []
    )
    assert "regex" not in options or shown in said


@pytest.mark.parametrize(("options", "problem"), WRONG, ids=[problem for _, problem in WRONG])
def test_wrong_arguments(model: BitNetModel, options: dict[str, Any], problem: str) -> None:
    with model.session() as session:
        for call in (model.generate, model.stream, session.generate, session.stream):
            with pytest.raises(InvalidParameterError) as caught:
                call(TALE, **options)
            assert problem in str(caught.value)
            parameter = caught.value.parameter
            assert parameter is not None
            assert parameter.partition("[")[0] in options
            assert pickle.loads(pickle.dumps(caught.value)).args == caught.value.args
        assert session.tokens == []


@pytest.mark.parametrize(
    "schema",
    [
        {"multipleOf": 2147483647},
        {"type": "number", "multipleOf": 0.000999983},
        {"items": [{"properties": {"a": {"multipleOf": 123_457}}}]},
        {"allOf": [{"multipleOf": 997}, {"multipleOf": 991}]},
        {"multipleOf": 997, "$ref": "#/$defs/a", "$defs": {"a": {"multipleOf": 991}}},
        {"multipleOf": 2**20},
        {"multipleOf": 10**4000 + 1},
        {"properties": {f"p{i}": {"multipleOf": 9001 + 2 * i} for i in range(20)}},
    ],
)
def test_multiples_that_would_take_gigabytes_are_refused(
    model: BitNetModel, schema: dict[str, Any]
) -> None:
    with pytest.raises(InvalidParameterError, match=r'schema has "multipleOf": .* too long'):
        model.generate(TALE, schema=schema)


@pytest.mark.parametrize(
    "grammar",
    [
        'start: %json {"multipleOf": 2147483647}',
        'start: "a" b\nb: %json\n  {"properties": {"a": {"multipleOf": 999983}}}',
    ],
)
def test_multiples_in_a_grammar_too(model: BitNetModel, grammar: str) -> None:
    with pytest.raises(InvalidParameterError, match=r'grammar has "multipleOf": .* too long'):
        model.generate(TALE, grammar=grammar)


def test_a_schema_in_a_grammar(model: BitNetModel) -> None:
    grammar = 'start: %json {"type": "integer", "multipleOf": 500, "minimum": 1, "maximum": 999}'
    assert model.generate(TALE, grammar=grammar, max_tokens=9) == "500"


@pytest.mark.parametrize("step", [1, 5, 60, 997, 0.01, 0.25, 1_000_000, 86_400, 2.5e-7])
def test_usual_multiples_are_not(model: BitNetModel, step: float) -> None:
    schema = {"type": "number", "multipleOf": step, "minimum": 0}
    assert isinstance(model.generate(TALE, schema=schema, return_result=True).text, str)


@pytest.mark.parametrize("grammar", ["start: /a+/ /a+/", 'start: "a" start', 'root ::= "a" root'])
def test_a_grammar_in_which_something_must_follow_without_end_ends_at_max_tokens(
    model: BitNetModel, grammar: str
) -> None:
    forced = '\n%llguidance {"no_forcing": false}' if "start" in grammar else ""
    result = model.generate(TALE, grammar=grammar + forced, max_tokens=20, return_result=True)
    assert (set(result.text), result.finish_reason) == ({"a"}, "length")


def test_none_is_no_form(model: BitNetModel) -> None:
    options: dict[str, Any] = {"schema": None, "regex": None, "choices": None, "grammar": None}
    result = model.generate(TALE, max_tokens=8, return_result=True, **options)
    assert result.text == model.generate(TALE, max_tokens=8)
    assert result.parsed is None


def test_without_the_extra(model: BitNetModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    for options in ({"schema": {}}, {"regex": "a"}, {"choices": ["a"]}, {"grammar": "start: x"}):
        with pytest.raises(MissingExtraError, match=r'pip install "ryzanstein_llm\[structured\]"'):
            model.generate(TALE, **options)  # type: ignore[arg-type]
    assert model.generate(TALE, max_tokens=1)


def test_without_a_tokenizer(tmp_path: Path) -> None:
    write_small_model(tmp_path / "model")
    with BitNetModel(tmp_path / "model") as wordless, pytest.raises(TokenizerMissingError):
        wordless.generate([5], regex="a", return_result=True)


def test_a_tokenizer_that_llguidance_does_not_know(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models

    write_small_model(tmp_path / "model")
    raw = Tokenizer(models.WordLevel({f"w{index}": index for index in range(301)}, "w0"))
    raw.save(str(tmp_path / "model" / "tokenizer.json"))
    problem = "llguidance cannot use this tokenizer"
    with (
        BitNetModel(tmp_path / "model") as model,
        pytest.raises(UnsupportedFeatureError, match=problem),
    ):
        model.generate([5], regex="w1")


INCOMPLETE = {
    "length": {"max_tokens": 9},
    "stop": {"stop": '"name'},
}


@pytest.mark.parametrize("reason", INCOMPLETE)
def test_what_ended_early_cannot_be_read(model: BitNetModel, reason: str) -> None:
    schema = {
        "type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"],
    }  # fmt: skip
    options: dict[str, Any] = INCOMPLETE[reason]
    result = model.generate(TALE, schema=schema, return_result=True, **options)
    with pytest.raises(IncompleteOutputError) as caught:
        _ = result.parsed
    error = caught.value
    assert (error.argument, error.text, error.finish_reason) == ("schema", result.text, reason)
    assert "schema" in str(error)
    assert repr(result.text) in str(error)
    assert ("max_tokens" in str(error)) == (reason == "length")
    again = pickle.loads(pickle.dumps(error))
    assert (again.args, again.text) == (error.args, error.text)
    assert isinstance(error, ValueError)


def test_the_error_says_whether_max_tokens_or_the_context_ended_the_text() -> None:
    regex = "[a-z ]{200}"
    with BitNetModel(n_threads=1, context_length=40) as short:
        room = 40 - len(short.tokenize(TALE))
        for most, full in [(room - 1, False), (room, True), (room + 1, True), (None, True)]:
            result = short.generate(TALE, regex=regex, max_tokens=most, return_result=True)
            assert (result.finish_reason, result.context_full) == ("length", full)
            with pytest.raises(IncompleteOutputError) as caught:
                _ = result.parsed
            assert caught.value.context_full is full
            advice = "shorten the prompt" if full else "raise max_tokens"
            assert advice in str(caught.value)
            assert ("max_tokens" in str(caught.value)) is not full


def test_a_stream_that_was_closed_cannot_be_read(model: BitNetModel) -> None:
    stream = model.stream(TALE, regex="[a-z ]{50}")
    next(stream)
    stream.close()
    with pytest.raises(IncompleteOutputError, match=r"regex: .* 'cancelled'"):
        _ = stream.result.parsed


def test_a_result_can_be_pickled(model: BitNetModel) -> None:
    result = model.generate(TALE, choices=["a", "b"], return_result=True)
    again = pickle.loads(pickle.dumps(result))
    assert isinstance(again, GenerationResult)
    assert again.parsed == result.parsed == result.text


@pytest.mark.parametrize("place", ["allowed", "follow", "forced"])
def test_a_grammar_that_fails_on_the_way_fails_alone(
    model: BitNetModel, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """llguidance has limits that it may only reach after some tokens. Others go on."""
    original = getattr(GrammarConstraint, place)

    def failing(self: GrammarConstraint, *arguments: Any) -> Any:
        if self._argument == "regex" and self._followed >= 6:
            raise InvalidParameterError("cannot be followed any further: too complex", "regex")
        return original(self, *arguments)

    expected = model.generate(TALE, grammar="start: /[a-z ]{40}/")
    monkeypatch.setattr(GrammarConstraint, place, failing)
    stream = model.stream(TALE, grammar="start: /[a-z ]{40}/")
    first = next(stream)
    with pytest.raises(InvalidParameterError, match="regex cannot be followed any further"):
        model.generate(TALE, regex="[a-z ]{40}")
    assert first + "".join(stream) == expected


def test_what_matches_nothing_is_refused(model: BitNetModel) -> None:
    with pytest.raises(InvalidParameterError, match="regex cannot be followed any further"):
        model.generate(TALE, regex=r"[^\x00-\x{10ffff}]")


def test_an_end_of_text_token_is_allowed_only_where_the_form_may_end(model: BitNetModel) -> None:
    ids = model.vocabulary.eos_ids
    constraint = _constraint(model, "ab?")
    a, b = (model.tokenize(each, add_special_tokens=False)[0] for each in "ab")
    allowed: list[Any] = []
    for tokens in ([], [a], [a, b]):
        constraint.follow(tokens, 0)
        mask = constraint.allowed()
        assert mask is not None
        assert mask.shape == (model.vocab_size,)
        allowed.append([bool(mask[each]) for each in ids])
    assert allowed == [[False] * len(ids), [True] * len(ids), [True] * len(ids)]
    assert constraint.finished


def _constraint(model: BitNetModel, regex: str) -> GrammarConstraint:
    from ryzanstein_llm.options import GenerationOptions

    output = GenerationOptions.from_arguments({"regex": regex}).output
    assert output is not None
    constraint = output.constraint(model.vocabulary)
    assert isinstance(constraint, GrammarConstraint)
    return constraint


def test_the_tokenizer_is_built_once(model: BitNetModel) -> None:
    first, second = _constraint(model, "a"), _constraint(model, "b")
    assert first._grammars is second._grammars
    assert _constraint(model, "a")._start is first._start
