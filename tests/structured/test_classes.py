"""Classes as forms: of Pydantic, by its methods alone, and dataclasses. What comes back is an
instance."""

from __future__ import annotations

import dataclasses
import enum
import importlib
import json
import pickle
import typing
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import pytest
from extras import needs_extra

from ryzanstein_llm import BitNetModel
from ryzanstein_llm.errors import (
    IncompleteOutputError,
    InvalidOutputError,
    InvalidParameterError,
)
from ryzanstein_llm.structured import OutputFormat
from ryzanstein_llm.structured.schemas import read_instance, schema_of

needs_extra("structured", "llguidance")

TALE = "Once upon a time"


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.5


@dataclasses.dataclass
class Node:
    on: bool
    next: Node | None


@dataclasses.dataclass
class Everything:
    name: Annotated[str, "short"]
    colour: Colour
    kind: Literal["a", "b", 3]
    where: Point | None
    corners: list[Point]
    pair: tuple[bool, bool]
    many: tuple[bool, ...]
    counts: dict[str, bool]
    nothing: None
    chain: Node
    either: typing.Union[bool, list[bool]]  # noqa: UP007
    extra: Any = None
    hidden: int = dataclasses.field(default=7, init=False)


VALUES: dict[str, Any] = {
    "name": "n",
    "colour": "red",
    "kind": 3,
    "where": {"x": 1},
    "corners": [{"x": 1, "y": 2}, {"x": 3, "y": 0.25}],
    "pair": [True, False],
    "many": [False],
    "counts": {"a": True},
    "nothing": None,
    "chain": {"on": True, "next": {"on": False, "next": None}},
    "either": [True],
}


@pytest.fixture(scope="module")
def model() -> Iterator[BitNetModel]:
    with BitNetModel() as model:
        yield model


def test_a_dataclass_is_read_from_json() -> None:
    found = read_instance(Everything, json.dumps(VALUES))
    assert found == Everything(
        name="n",
        colour=Colour.RED,
        kind=3,
        where=Point(1),
        corners=[Point(1, 2.0), Point(3, 0.25)],
        pair=(True, False),
        many=(False,),
        counts={"a": True},
        nothing=None,
        chain=Node(True, Node(False, None)),
        either=[True],
    )
    assert isinstance(found.corners[0].y, float)


def test_the_schema_of_a_dataclass_accepts_what_it_can_read() -> None:
    jsonschema = needs_extra("parity", "jsonschema")
    schema, target = schema_of("schema", Everything)
    assert target is Everything
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid(VALUES)
    wrong = {
        "colour": "green",
        "kind": "3",
        "where": {"y": 1.0},
        "corners": [{"x": 1.5}],
        "pair": [True],
        "counts": {"a": 1},
        "nothing": 0,
        "chain": {"on": True},
        "either": 1,
        "hidden": 7,
    }
    for name, value in wrong.items():
        assert not validator.is_valid({**VALUES, name: value}), name
    for name in set(VALUES) - {"extra"}:
        assert not validator.is_valid({key: v for key, v in VALUES.items() if key != name}), name


@dataclasses.dataclass
class Knight:
    age: int
    brave: bool
    colour: Colour
    horse: Literal["grey", "black"] | None


def test_generation_gives_an_instance(model: BitNetModel) -> None:
    found = set()
    for seed in range(8):
        result = model.generate(
            TALE, schema=Knight, temperature=1.5, seed=seed, max_tokens=200, return_result=True
        )
        if result.finish_reason == "eos":
            assert isinstance(result.parsed, Knight)
            assert isinstance(result.parsed.colour, Colour)
            found.add(result.text)
    assert len(found) >= 3


def test_pydantic(model: BitNetModel) -> None:
    pydantic = needs_extra("parity", "pydantic")

    class Horse(pydantic.BaseModel):  # type: ignore[name-defined, misc]
        legs: Annotated[int, pydantic.Field(ge=0, le=9)]
        colour: Colour

    class Rider(pydantic.BaseModel):  # type: ignore[name-defined, misc]
        brave: bool
        horse: Horse
        others: Annotated[list[Horse], pydantic.Field(max_length=2)]
        title: Literal["sir", "lady"] = "sir"

    for seed in range(8):
        result = model.generate(
            TALE, schema=Rider, temperature=1.5, seed=seed, max_tokens=300, return_result=True
        )
        assert isinstance(result.parsed, Rider)
        assert Rider.model_validate_json(result.text) == result.parsed
        assert set(json.loads(result.text)) <= {"brave", "horse", "others", "title"}


def test_a_dataclass_of_pydantic_keeps_its_constraints() -> None:
    pydantic = needs_extra("parity", "pydantic")
    dataclass = importlib.import_module("pydantic.dataclasses").dataclass
    legs = Annotated[int, pydantic.Field(ge=0, le=9)]
    horse = dataclass(type("Horse", (), {"__annotations__": {"legs": legs}}))

    schema, target = schema_of("schema", horse)
    assert target is horse
    assert schema["properties"]["legs"].items() >= {"minimum": 0, "maximum": 9}.items()
    assert schema["additionalProperties"] is False
    assert read_instance(horse, '{"legs": 4}') == horse(4)
    with pytest.raises(pydantic.ValidationError):
        read_instance(horse, '{"legs": 10}')


def test_constraints_that_a_dataclass_does_not_check_are_refused() -> None:
    pydantic = needs_extra("parity", "pydantic")
    legs = Annotated[int, pydantic.Field(ge=0)]
    horse = pydantic.create_model("Horse", legs=(legs, ...))
    bounded = dataclasses.make_dataclass("Bounded", [("legs", list[legs])])  # type: ignore[valid-type]
    rider = dataclasses.make_dataclass("Rider", [("horse", horse)])

    with pytest.raises(InvalidParameterError, match=r"Bounded\.legs is annotated with .*[gG]e"):
        schema_of("schema", bounded)
    with pytest.raises(InvalidParameterError, match=r"Rider\.horse has the type Horse, a class"):
        schema_of("schema", rider)


def test_an_annotation_that_says_nothing_to_pydantic_is_kept() -> None:
    described = dataclasses.make_dataclass("Described", [("legs", Annotated[int, "how many"])])
    assert "Described" in schema_of("schema", described)[0]["$defs"]


def test_what_a_validator_of_pydantic_refuses_is_an_error_of_ours(model: BitNetModel) -> None:
    pydantic = needs_extra("parity", "pydantic")

    class Odd(pydantic.BaseModel):  # type: ignore[name-defined, misc]
        even: Literal[2]

        @pydantic.field_validator("even")
        @classmethod
        def refuse(cls, value: int) -> int:
            raise ValueError("never")

    result = model.generate(TALE, schema=Odd, return_result=True)
    with pytest.raises(InvalidOutputError, match=r"(?s)schema: .*never") as caught:
        _ = result.parsed
    assert isinstance(caught.value.__cause__, pydantic.ValidationError)
    assert (caught.value.argument, caught.value.text) == ("schema", '{"even":2}')
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize("kind", [ValueError, AssertionError])
def test_what_a_dataclass_refuses_is_an_error_of_ours(
    model: BitNetModel, kind: type[Exception]
) -> None:
    @dataclasses.dataclass
    class Odd:
        even: Literal[2]

        def __post_init__(self) -> None:
            raise kind

    result = model.generate(TALE, schema=Odd, return_result=True)
    with pytest.raises(InvalidOutputError, match=f"cannot be read: {kind.__name__}") as caught:
        _ = result.parsed
    assert type(caught.value.__cause__) is kind


def test_a_fault_in_the_code_of_a_class_is_not_called_a_wrong_text(model: BitNetModel) -> None:
    @dataclasses.dataclass
    class Faulty:
        even: Literal[2]

        def __post_init__(self) -> None:
            self.odd.append(1)  # type: ignore[attr-defined]

    result = model.generate(TALE, schema=Faulty, return_result=True)
    with pytest.raises(AttributeError, match="odd"):
        _ = result.parsed


@pytest.mark.parametrize("text", ["9" * 5000, "[" * 100_000 + "]" * 100_000])
def test_json_beyond_the_limits_of_python_is_an_error_of_ours(text: str) -> None:
    output = OutputFormat.from_schema("schema", {})
    with pytest.raises(InvalidOutputError, match=r"schema: the text .* cannot be read: "):
        output.read(text, "eos")


def test_a_class_with_the_methods_of_pydantic_will_do(model: BitNetModel) -> None:
    class Likewise:
        def __init__(self, text: str) -> None:
            self.text = text

        @classmethod
        def model_json_schema(cls) -> dict[str, Any]:
            return {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]}

        @classmethod
        def model_validate_json(cls, text: str) -> Likewise:
            return cls(text)

    result = model.generate(TALE, schema=Likewise, return_result=True)
    assert result.parsed.text == '{"a":1}'


def test_the_texts_of_errors() -> None:
    @dataclasses.dataclass
    class Odd:
        numbers: set[int]

    @dataclasses.dataclass
    class Unknown:
        what: Missing  # type: ignore[name-defined] # noqa: F821

    with pytest.raises(InvalidParameterError, match=r"schema: Odd.numbers has the type set\[int\]"):
        schema_of("schema", Odd)
    with pytest.raises(InvalidParameterError, match="schema: the types of Unknown cannot be found"):
        schema_of("schema", Unknown)
    for value in (int, "text", Point(1), [1], True):
        with pytest.raises(InvalidParameterError, match="schema must be a JSON schema as a dict"):
            schema_of("schema", value)


def test_classes_of_a_function_and_of_equal_names(model: BitNetModel) -> None:
    def horse(kind: Any) -> Any:
        @dataclasses.dataclass
        class Ross_é:  # noqa: N801
            legs: kind

        Ross_é.__annotations__["legs"] = kind
        return Ross_é

    one, two = horse(Literal[4]), horse(Literal["three"])
    both = dataclasses.make_dataclass("Both", [("one", one), ("two", two), ("again", one)])
    assert len(schema_of("schema", both)[0]["$defs"]) == 3
    result = model.generate(TALE, schema=both, return_result=True)
    assert result.text == '{"one":{"legs":4},"two":{"legs":"three"},"again":{"legs":4}}'
    assert result.parsed == both(one(4), two("three"), one(4))


def test_a_value_that_ended_early_is_no_instance(model: BitNetModel) -> None:
    result = model.generate(TALE, schema=Knight, max_tokens=3, return_result=True)
    with pytest.raises(IncompleteOutputError, match="schema"):
        _ = result.parsed
