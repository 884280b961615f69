"""Texts with a form: what comes out follows it, whatever the model and the sampling; it is the same
text with and without forced tokens, alone and together with others, and after an interrupt."""

from __future__ import annotations

import json
import random
import re
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from extras import needs_extra

from ryzanstein_llm import BitNetModel, SamplingParams
from ryzanstein_llm.engine.sequence import Sequence
from ryzanstein_llm.errors import InvalidParameterError
from ryzanstein_llm.generation import Generation
from ryzanstein_llm.structured.constraint import GrammarConstraint

needs_extra("structured", "llguidance")

TALE = "Once upon a time"
WILD = {"temperature": 1.5}
SEEDS = range(12)

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "colour": {"enum": ["red", "green", "blue"]},
    },
    "required": ["name", "age", "colour"],
    "additionalProperties": False,
}

SCHEMAS: dict[str, dict[str, Any]] = {
    "object": PERSON,
    "optional properties": {**PERSON, "required": ["age"]},
    "array": {
        "type": "array",
        "items": {"type": "integer", "minimum": -9, "maximum": 9},
        "minItems": 2,
        "maxItems": 5,
    },
    "tuple": {
        "type": "array",
        "prefixItems": [{"type": "boolean"}, {"type": "null"}, {"const": "x"}],
        "items": False,
        "minItems": 3,
    },
    "nested": {
        "type": "object",
        "properties": {
            "people": {"type": "array", "items": PERSON, "minItems": 1, "maxItems": 2},
            "place": {
                "type": "object",
                "properties": {"zip": {"type": "string", "pattern": "^[0-9]{5}$"}},
                "required": ["zip"],
                "additionalProperties": False,
            },
        },
        "required": ["people", "place"],
        "additionalProperties": False,
    },
    "recursive": {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "value": {"type": "boolean"},
                    "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                },
                "required": ["value", "next"],
                "additionalProperties": False,
            }
        },
        "$ref": "#/$defs/node",
    },
    "number": {"type": "number", "minimum": 0.5, "maximum": 1.5},
    "either": {"anyOf": [{"type": "string", "maxLength": 5}, {"type": "integer"}]},
    "date": {"type": "string", "format": "date"},
    "pattern": {"type": "string", "pattern": "^(ab|é)+c$"},
    "constant": {"const": {"a": [1, None, True, "\n"]}},
    "map": {
        "type": "object",
        "additionalProperties": {"type": "integer", "maximum": 9, "minimum": 0},
        "maxProperties": 2,
        "propertyNames": {"pattern": "^[a-c]$"},
    },
}
ENDLESS = {"number"}  # this model writes digit after digit
UNSUPPORTED = {"map"}  # llguidance has no propertyNames; `test_errors` has what is said then


@pytest.fixture(scope="module")
def model() -> Iterator[BitNetModel]:
    with BitNetModel() as model:
        yield model


def generate(source: Any, **options: Any) -> Any:
    return source.generate(TALE, return_result=True, **{"max_tokens": 300, **options})


@pytest.mark.parametrize("name", [name for name in SCHEMAS if name not in UNSUPPORTED])
def test_schemas_are_obeyed(model: BitNetModel, name: str) -> None:
    jsonschema = needs_extra("parity", "jsonschema")
    schema, complete = SCHEMAS[name], 0
    for seed in SEEDS:
        result = generate(model, schema=schema, seed=seed, **WILD)
        if result.finish_reason == "eos":
            complete += 1
            jsonschema.validate(json.loads(result.text), schema)
            assert result.parsed == json.loads(result.text)
            assert "\n" not in result.text
    assert complete >= (1 if name in ENDLESS else len(SEEDS) // 2)


def test_any_object(model: BitNetModel) -> None:
    for seed in SEEDS:
        result = generate(model, schema={"type": "object"}, seed=seed, temperature=1.0, top_k=3)
        if result.finish_reason == "eos":
            assert isinstance(result.parsed, dict)
        else:  # this model has much to say
            assert re.match(r'\{"|\{\}', result.text)


def test_there_is_no_white_space_unless_the_schema_says_so(model: BitNetModel) -> None:
    for seed in SEEDS:
        text = generate(model, schema=SCHEMAS["array"], seed=seed, **WILD).text
        assert re.fullmatch(r"\[-?\d(,-?\d)+\]", text)
    spaced = {**SCHEMAS["array"], "x-guidance": {"item_separator": ", "}}
    assert ", " in generate(model, schema=spaced, seed=0, **WILD).text


@pytest.mark.parametrize(
    "pattern",
    [
        r"\d{3}-\d{4}",
        r"[a-z]+( [a-z]+){2,5}\.",
        r"(yes|no|maybe), .{1,20}!",
        r"^\w{2,4}$",
        r"[äöü€😀]{3}",
        r"(?i)king",
        r"a|ab|abc",
    ],
)
def test_regular_expressions_match_the_whole_text(model: BitNetModel, pattern: str) -> None:
    for seed in SEEDS:
        result = generate(model, regex=pattern, seed=seed, **WILD)
        assert result.finish_reason == "eos"
        assert re.fullmatch(pattern, result.text)
        assert result.parsed == result.text


def test_choices(model: BitNetModel) -> None:
    choices = ["yes", "yes, please", "no", "ünd*[", '"\\d\n', " "]
    texts = {generate(model, choices=choices, seed=seed, temperature=9).text for seed in range(60)}
    assert texts <= set(choices)
    assert len(texts) >= 3
    assert generate(model, choices=["only this one"]).text == "only this one"


LARK = """
start: "the " animal (" and the " animal)* "."
animal: CAT | "dog" | "bird"
CAT: /c[aou]t/
"""
GBNF = r"""
root   ::= "the " animal (" and the " animal)* "."   # some of them
animal ::= cat | "d\x6fg" | "bird"
cat    ::= "c" [aou] "t"
"""


@pytest.mark.parametrize("grammar", [LARK, GBNF], ids=["Lark", "GBNF"])
def test_grammars(model: BitNetModel, grammar: str) -> None:
    animal = "(c[aou]t|dog|bird)"
    for seed in SEEDS:
        result = generate(model, grammar=grammar, seed=seed, **WILD)
        assert result.finish_reason == "eos"
        assert re.fullmatch(f"the {animal}( and the {animal})*[.]", result.text)


def test_characters_of_gbnf_may_be_written_as_numbers(model: BitNetModel) -> None:
    text = r'root ::= "caf\u00e9 \U0001f600\x21" [\u00e4-\u00fc]'
    assert re.fullmatch("café 😀![ä-ü]", generate(model, grammar=text).text)


def test_a_form_without_choices_is_read_in_one_pass(model: BitNetModel) -> None:
    """But for the end, which has two spellings: `]}` may be one token or two."""
    result = generate(model, schema=SCHEMAS["constant"])
    assert result.parsed == SCHEMAS["constant"]["const"]
    assert result.forced_tokens >= len(result.ids) - 2
    assert generate(model, regex="a").finish_reason == "eos"


# ---- what holds of all texts holds of these -------------------------------------------------

FORMS: dict[str, dict[str, Any]] = {
    "schema": {"schema": SCHEMAS["nested"]},
    "regex": {"regex": r"[a-z]+( [a-z]+){2,5}\."},
    "choices": {"choices": ["a king and a queen", "a king", "three sons"]},
    "grammar": {"grammar": LARK},
}
SAMPLING: dict[str, dict[str, Any]] = {
    "greedy": {},
    "greedy with penalties": {"repetition_penalty": 1.3, "frequency_penalty": 0.4},
    "top_k": {"temperature": 1.2, "top_k": 7, "seed": 3},
    "top_k with penalties": {
        "temperature": 1.2, "top_k": 7, "seed": 3, "repetition_penalty": 1.2,
        "presence_penalty": 0.5,
    },
    "top_p": {"temperature": 1.1, "top_p": 0.8, "seed": 4},
    "min_p": {"temperature": 1.5, "min_p": 0.05, "seed": 5, "repetition_penalty": 1.1},
    "typical_p": {"temperature": 1.0, "typical_p": 0.7, "seed": 6},
    "plain": {"temperature": 1.5, "seed": 7, "frequency_penalty": 0.3},
}  # fmt: skip


ASKED = [{**FORMS[form], **sampling} for form in FORMS for sampling in SAMPLING.values()]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sampling", SAMPLING)
def test_forcing_tokens_changes_nothing(
    model: BitNetModel, form: str, sampling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**FORMS[form], **SAMPLING[sampling]}
    forced = generate(model, **options)
    monkeypatch.setattr(GrammarConstraint, "forced", lambda self: None)
    chosen = generate(model, **options)
    assert chosen.forced_tokens == 0
    assert (forced.text, forced.ids) == (chosen.text, chosen.ids)
    assert forced.finish_reason == chosen.finish_reason


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sampling", SAMPLING)
def test_logprobs_change_nothing_and_are_those_of_the_model(
    model: BitNetModel, form: str, sampling: str
) -> None:
    """Of all tokens, allowed or not, also where only one was allowed."""
    options = {**FORMS[form], **SAMPLING[sampling]}
    expected = generate(model, **options)
    found = generate(model, **options, logprobs=2)
    assert (found.text, found.ids) == (expected.text, expected.ids)
    assert found.finish_reason == expected.finish_reason
    assert found.forced_tokens == 0
    [score] = model.score(model.tokenize(TALE), [found.ids])
    assert [each.logprob for each in found.logprobs] == score.logprobs
    assert [each.id for each in found.logprobs] == found.ids
    outside = [each for each in found.logprobs if each.id not in [top.id for top in each.top]]
    assert outside  # the likeliest tokens are not all allowed
    free = generate(model, max_tokens=1, logprobs=2).logprobs[0]
    assert found.logprobs[0].top == free.top


def test_logprobs_of_several_prompts_of_which_some_have_a_form(model: BitNetModel) -> None:
    prompts = [TALE, "The king", "But the queen said:"]
    options: dict[str, Any] = {**FORMS["schema"], **WILD, "seed": 4, "max_tokens": 60}
    together = model.generate(prompts, return_result=True, logprobs=1, **options)
    for prompt, result in zip(prompts, together, strict=True):
        assert result.ids == model.generate(prompt, return_result=True, **options).ids
        [score] = model.score(model.tokenize(prompt), [result.ids])
        assert [each.logprob for each in result.logprobs] == score.logprobs


@pytest.mark.parametrize("form", FORMS)
def test_forcing_changes_nothing_whatever_was_chosen(
    model: BitNetModel, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    forced = [generate(model, **FORMS[form], seed=seed, **WILD) for seed in SEEDS]
    monkeypatch.setattr(GrammarConstraint, "forced", lambda self: None)
    for seed, expected in zip(SEEDS, forced, strict=True):
        assert generate(model, **FORMS[form], seed=seed, **WILD).ids == expected.ids
    if form == "schema":
        assert all(result.forced_tokens > len(result.ids) // 3 for result in forced)


def test_all_masked_logits_give_the_choice_that_few_rows_give(
    model: BitNetModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answers of the head by rows, by the screen, and by the full head agree."""
    from ryzanstein_llm.models.head import FloatHead

    expected = [generate(model, **options).ids for options in ASKED]
    ways: set[str] = set()
    way = FloatHead.way

    def noted(self: FloatHead, query: Any) -> str:
        ways.add(way(self, query))
        return "full"

    monkeypatch.setattr(FloatHead, "way", noted)
    assert [generate(model, **options).ids for options in ASKED] == expected
    assert ways == {"rows", "screen", "full"}


@pytest.fixture(scope="module")
def in_the_best_tier(model: BitNetModel) -> list[str]:
    return [generate(model, **options).text for options in ASKED]


def test_equal_in_every_tier(in_the_best_tier: list[str], tier: str) -> None:
    with BitNetModel(n_threads=2) as model:
        assert [generate(model, **options).text for options in ASKED] == in_the_best_tier


@pytest.mark.parametrize("form", FORMS)
def test_a_stream_gives_the_same_text(model: BitNetModel, form: str) -> None:
    options = {**FORMS[form], **WILD, "seed": 1, "max_tokens": 300}
    with model.stream(TALE, **options) as stream:
        text = "".join(stream)
    assert text == model.generate(TALE, **options)
    if stream.result.finish_reason == "eos":
        assert stream.result.parsed == generate(model, **options).parsed


def test_a_session_goes_on_after_a_form(model: BitNetModel) -> None:
    with model.session() as session, model.session() as other:
        first = generate(session, schema=PERSON)
        other.generate(TALE, max_tokens=0)
        assert session.tokens == [*other.tokens, *first.ids]
        assert re.fullmatch(r"\d\d", generate(session, regex=r"\d\d").text)
        ids = session.tokens
        free = session.generate(" and then", max_tokens=8, return_result=True)
        fresh = model.generate(
            [*ids, *model.tokenize(" and then", add_special_tokens=False)],
            max_tokens=8,
            return_result=True,
        )
        assert free.ids == fresh.ids


def test_the_same_together_with_others(model: BitNetModel) -> None:
    """Some free, some with forms, some that only read their prompts yet."""
    asked: list[dict[str, Any]] = [{**FORMS[form], **WILD, "seed": 2} for form in FORMS]
    asked += [{"max_tokens": 60}, {"max_tokens": 60, **WILD, "seed": 9}]
    asked += [{"schema": PERSON, "top_k": 4, "seed": seed, **WILD} for seed in range(4)]
    prompts = [TALE * (1 + index % 3) for index in range(len(asked))]
    alone = [
        model.generate(prompt, return_result=True, **{"max_tokens": 200, **options}).ids
        for prompt, options in zip(prompts, asked, strict=True)
    ]
    found: list[Any] = [None] * len(asked)

    def ask(index: int) -> None:
        found[index] = model.generate(
            prompts[index], return_result=True, **{"max_tokens": 200, **asked[index]}
        ).ids

    threads = [threading.Thread(target=ask, args=[index]) for index in range(len(asked))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == alone


def test_a_cache_that_is_too_small_changes_nothing() -> None:
    with BitNetModel() as model, BitNetModel(prefix_cache_bytes=1 << 20) as small:
        for seed in range(4):
            options = {**FORMS["schema"], **WILD, "seed": seed}
            assert generate(small, **options).ids == generate(model, **options).ids


@pytest.mark.parametrize("place", ["allowed", "follow", "forced", "add_token", "choose"])
@pytest.mark.parametrize("logprobs", [None, 1])
def test_an_interrupt_anywhere_changes_nothing(
    model: BitNetModel, place: str, logprobs: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C before or after any call that a choice consists of; the pass is then done again."""
    from ryzanstein_llm.generation import _Listener
    from ryzanstein_llm.sampling import Sampler

    options = {"schema": PERSON, **WILD, "seed": 8, "repetition_penalty": 1.2, "logprobs": logprobs}
    if place == "forced" and logprobs:
        pytest.skip("not called, because each token is asked for")
    expected = generate(model, **options)
    owner: Any = {"add_token": _Listener, "choose": Sampler}.get(place, GrammarConstraint)
    original = getattr(owner, place)
    draw = random.Random(place)

    def interrupted(*arguments: Any) -> Any:
        before, after = draw.random() < 0.15, draw.random() < 0.15
        if armed and before:
            raise KeyboardInterrupt
        result = original(*arguments)
        if armed and after:
            raise KeyboardInterrupt
        return result

    armed = False
    monkeypatch.setattr(owner, place, interrupted)
    with monkeypatch.context():
        stream = model.stream(TALE, max_tokens=300, **options)
        generation: Generation = stream._generation
        generation._begin()
    sequence: Any = generation._sequence
    assert isinstance(sequence, Sequence)
    armed, interrupts = True, 0
    while not sequence.ended:
        try:
            model.engine.advance(sequence, to_end=True)
        except KeyboardInterrupt:
            interrupts += 1
    armed = False
    assert interrupts
    assert generation.run().ids == expected.ids
    assert generation.result is not None
    assert generation.result.text == expected.text
    assert generation.result.forced_tokens == expected.forced_tokens
    assert generation.result.logprobs == expected.logprobs


def test_a_stop_string_and_max_tokens_end_it_within_forced_tokens(model: BitNetModel) -> None:
    result = generate(model, schema=PERSON, stop='"name')
    assert (result.text, result.finish_reason) == ("{", "stop")
    for count in range(8):
        result = generate(model, schema=PERSON, max_tokens=count)
        assert (len(result.ids), result.finish_reason) == (count, "length")


def test_a_form_that_is_complete_with_the_last_token_allowed_is_complete(
    model: BitNetModel,
) -> None:
    whole = generate(model, schema=PERSON)
    result = generate(model, schema=PERSON, max_tokens=len(whole.ids))
    assert (result.ids, result.finish_reason) == (whole.ids, "eos")


def test_timings_say_what_masks_cost(model: BitNetModel) -> None:
    result = generate(model, schema=PERSON, **WILD, seed=0)
    timings = result.timings
    assert 0 < timings.masks < timings.prefill + sum(timings.decode)
    leading = 7  # {"name":" as the demo model's tokenizer spells it
    assert len(timings.decode) == len(result.ids) - leading - 1
    assert generate(model, max_tokens=5).timings.masks == 0


def test_constraints_are_told_each_token_once(model: BitNetModel) -> None:
    """Not all of them again for each choice, which would take quadratic time."""
    constraint = Generation(
        model.engine,
        model.vocabulary,
        model.vocabulary.read_prompt(TALE),
        _options(regex="(ab)*"),
    )._constraint
    assert isinstance(constraint, GrammarConstraint)
    told = []

    class Told:
        def __init__(self, matcher: Any) -> None:
            self.matcher = matcher

        def consume_token(self, token: int) -> bool:
            told.append(token)
            return bool(self.matcher.consume_token(token))

    constraint._matcher = Told(constraint._matcher)
    ids = model.tokenize("ababab", add_special_tokens=False)
    for count in range(len(ids) + 1):
        constraint.follow([5, 6, 7, *ids[:count]], 3)
    assert told == ids


def _options(**arguments: Any) -> Any:
    from ryzanstein_llm.options import GenerationOptions

    return GenerationOptions.from_arguments({"sampling": SamplingParams(), **arguments})


@pytest.mark.parametrize("form", FORMS)
def test_a_list_of_prompts(model: BitNetModel, form: str) -> None:
    """Each text of a batch is followed by a constraint of its own."""
    prompts = [TALE, "The king", "But the queen said:", "A very long prompt " * 12]
    options: dict[str, Any] = {**FORMS[form], **WILD, "seed": 11, "max_tokens": 120}
    texts = model.generate(prompts, **options)
    assert texts == [model.generate(prompt, **options) for prompt in prompts]


def test_a_form_that_is_not_valid_spoils_no_prompt_of_a_list(model: BitNetModel) -> None:
    with pytest.raises(InvalidParameterError, match="regex is not valid"):
        model.generate([TALE, "The king"], regex="(")


# ---- together with other options that say what may come --------------------------------------

BIASES = {5: 3.0, 300: -2.5, 440: 8.0, 2537: 1.25}


def biased(tokens: list[int], logits: Any) -> None:
    for token, bias in BIASES.items():
        logits[token] += np.float32(bias)


@pytest.mark.parametrize("name", ["object", "array", "either", "recursive"])
@pytest.mark.parametrize("options", [{}, {"logprobs": 2}, {"repetition_penalty": 1.3}])
def test_a_processor_that_adds_biases_is_a_bias(
    model: BitNetModel, name: str, options: dict[str, Any]
) -> None:
    for seed in range(4):
        sampling = {"seed": seed, "temperature": 1.5, "top_p": 0.95, **options}
        given = {"schema": SCHEMAS[name], "max_tokens": 80, **sampling}
        expected = generate(model, logit_bias=BIASES, **given)
        found = generate(model, logits_processor=biased, **given)
        assert (found.ids, found.finish_reason) == (expected.ids, expected.finish_reason)
        assert found.logprobs == expected.logprobs


def test_processors_see_all_logits_and_are_called_for_each_token(model: BitNetModel) -> None:
    seen: list[list[int]] = []

    def watch(tokens: list[int], logits: Any) -> None:
        assert logits.shape == (model.vocab_size,)
        assert np.isfinite(logits).all()
        seen.append(tokens)

    result = generate(model, schema=PERSON, max_tokens=20, logits_processor=watch)
    assert result.forced_tokens == 0
    assert seen == [[*seen[0], *result.ids[:count]] for count in range(len(result.ids))]
    assert result.ids == generate(model, schema=PERSON, max_tokens=20).ids


def test_a_processor_decides_among_what_the_form_allows(model: BitNetModel) -> None:
    (yes,) = model.tokenize("yes", add_special_tokens=False)[:1]
    (no,) = model.tokenize("no", add_special_tokens=False)[:1]
    assert yes != no

    def only(token: int) -> Any:
        def processor(tokens: list[int], logits: Any) -> None:
            if len(tokens) == len(model.tokenize(TALE)):
                logits[token], logits[9] = 1e6, 1e7  # the form does not allow 9

        return processor

    for token, text in [(yes, "yes"), (no, "no")]:
        for options in ({}, {"temperature": 2.0, "seed": 3}):
            found = generate(model, choices=["yes", "no"], logits_processor=only(token), **options)
            assert found.text == text


def test_a_processor_that_rules_out_all_that_the_form_allows_is_an_error(
    model: BitNetModel,
) -> None:
    def nothing(tokens: list[int], logits: Any) -> None:
        logits[model.tokenize("king", add_special_tokens=False)[0]] = -np.inf

    with pytest.raises(InvalidParameterError, match="rule out every token"):
        generate(model, choices=["king"], logits_processor=nothing)
    assert generate(model, choices=["king"]).text == "king"


def test_processors_and_grammars_of_completions(model: BitNetModel) -> None:
    def call(**options: Any) -> str:
        grammar = 'root ::= "a" | "b"'
        found = model.create_completion(TALE, grammar=grammar, temperature=0, **options)
        text: str = found["choices"][0]["text"]
        return text

    other = {"a": "b", "b": "a"}[call()]
    (token,) = model.tokenize(other, add_special_tokens=False)

    def prefer(tokens: list[int], logits: Any) -> None:
        logits[token] = 1e6

    assert call(logits_processor=prefer) == other


@pytest.mark.parametrize("options", [{}, WILD, {"logprobs": 0}])
@pytest.mark.parametrize("least", [0, 1, 5, 17])
def test_no_end_before_min_tokens_where_the_form_could_end(
    model: BitNetModel, least: int, options: dict[str, Any]
) -> None:
    """The model would end each text at the first place at which it may."""
    eager = dict.fromkeys(model.eos_ids, 100.0)
    given = {"regex": "[a-z ]*", "logit_bias": eager, "seed": 1, **options}
    result = generate(model, min_tokens=least, **given)
    assert (len(result.ids), result.finish_reason) == (least, "eos")
    assert re.fullmatch("[a-z ]*", result.parsed)


@pytest.mark.parametrize("choices", [["yes", "no"], ["king"]])
@pytest.mark.parametrize("options", [{}, {"logits_processor": biased}])
def test_a_form_that_must_end_before_min_tokens_is_an_error(
    model: BitNetModel, choices: list[str], options: dict[str, Any]
) -> None:
    with model.session() as session:
        for source in (model, session):
            with pytest.raises(InvalidParameterError, match="min_tokens is 10") as caught:
                generate(source, choices=choices, min_tokens=10, **options)
            assert caught.value.parameter == "min_tokens"
            assert "the form of the text is complete after" in str(caught.value)
        assert session.tokens == []
        count = len(generate(session, choices=choices).ids)
    assert generate(model, choices=choices, min_tokens=count, **options).text in choices
    with pytest.raises(InvalidParameterError, match=f"complete after {count} new"):
        "".join(model.stream(TALE, choices=choices, min_tokens=count + 1))


WATCHED: list[dict[str, Any]] = [{}, {"logprobs": 1}, {"logits_processor": lambda t, x: None}]


@pytest.mark.parametrize("options", WATCHED)
def test_a_token_that_the_form_forces_ends_the_text_or_is_ruled_out_like_others(
    model: BitNetModel, options: dict[str, Any]
) -> None:
    (king,) = model.tokenize("king", add_special_tokens=False)
    found = generate(model, choices=["king"], stop_token_ids=[king], **options)
    assert (found.ids, found.text, found.finish_reason) == ([], "", "stop")
    for given in ({"logit_bias": {king: -100}}, {"stop_token_ids": [king], "min_tokens": 2}):
        with pytest.raises(InvalidParameterError, match="rule out every token"):
            generate(model, choices=["king"], **given, **options)
    assert generate(model, choices=["king"], **options).ids == [king]


@pytest.mark.parametrize("seed", range(40))
def test_watching_changes_nothing_whatever_ends_and_rules_out_tokens(
    model: BitNetModel, seed: int
) -> None:
    """Without processors and log probabilities, forced tokens are not asked for."""
    chooser = random.Random(seed)
    usual = [*generate(model, schema=PERSON, max_tokens=40).ids, *model.eos_ids]
    given: dict[str, Any] = {
        "stop_token_ids": chooser.sample(usual, chooser.randrange(3)),
        "logit_bias": {
            token: chooser.choice([-100.0, 4.0, -4.0])
            for token in chooser.sample(usual, chooser.randrange(4))
        },
        "min_tokens": chooser.choice([0, 0, 3, 9]),
        "temperature": chooser.choice([0.0, 1.5]),
        "stop": chooser.choice([None, ["e"], ["}"]]),
        **{"schema": PERSON, "max_tokens": 30, "seed": seed},
    }
    outcomes = []
    for options in WATCHED:
        try:
            found = generate(model, **given, **options)
            outcomes.append((found.ids, found.text, found.finish_reason))
        except InvalidParameterError as error:
            outcomes.append(str(error))
    assert outcomes[1:] == outcomes[:1] * 2
