"""Errors and signatures speak of the classes and options that users know."""

from __future__ import annotations

import inspect
import pickle
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ryzanstein_llm import BitNetModel, Embedder, Session, load


@pytest.fixture(scope="module")
def demo() -> Iterator[BitNetModel]:
    with BitNetModel(n_threads=1) as opened:
        yield opened


CALLS: list[tuple[Callable[[Any], Any], str]] = [
    (lambda model: model.generate("Once", 5), "BitNetModel.generate() takes 2 positional"),
    (lambda model: model.generate(), "BitNetModel.generate() missing 1 required positional"),
    (lambda model: model.stream("Once", 5), "BitNetModel.stream() takes 2 positional"),
    (lambda model: model("Once", 5), "BitNetModel.create_completion() takes 2 positional"),
    (lambda model: model.create_chat_completion(), "BitNetModel.create_chat_completion() missing"),
    (lambda model: model.chat(), "BitNetModel.chat() missing 1 required positional"),
    (lambda model: model.embed(), "BitNetModel.embed() missing 1 required positional"),
    (lambda model: model.score("Once"), "BitNetModel.score() missing 1 required positional"),
    (lambda model: model.info(True), "BitNetModel.info() takes 1 positional"),
    (
        lambda model: BitNetModel.from_pretrained(repo_id="org/name", filename="*.gguf"),  # type: ignore[call-arg]
        "BitNetModel.from_pretrained() missing 1 required positional argument: 'repository'",
    ),
    (lambda model: model.session().generate("Once", 5), "Session.generate() takes 2 positional"),
    (lambda model: model.session().stream("Once", 5), "Session.stream() takes 2 positional"),
]


@pytest.mark.parametrize(("call", "message"), CALLS)
def test_a_wrong_call_names_the_method_that_was_called(
    demo: BitNetModel, call: Callable[[Any], Any], message: str
) -> None:
    with pytest.raises(TypeError, match=f"^{re.escape(message)}"):
        call(demo)


@pytest.mark.parametrize("kind", [BitNetModel, Session, Embedder])
def test_no_method_bears_the_name_of_a_class_inside(kind: type) -> None:
    for name, _ in inspect.getmembers(kind, inspect.isroutine):
        member = inspect.getattr_static(kind, name)
        function = getattr(member, "__func__", member)
        if inspect.isfunction(function):
            assert function.__qualname__.startswith(f"{kind.__name__}."), name


@pytest.mark.parametrize("kind", [BitNetModel, Session, Embedder])
def test_a_method_can_be_handed_to_another_process(kind: type) -> None:
    for name, member in inspect.getmembers(kind, inspect.isfunction):
        if not name.startswith("_"):
            assert pickle.loads(pickle.dumps(member)) is member, name


def test_a_subclass_may_have_arguments_of_its_own() -> None:
    class Named(BitNetModel):
        def __init__(self, name: str, *others: Any, loud: bool = False, **options: Any) -> None:
            super().__init__(*others, **options)
            self.name = f"{name}!" if loud else name

    class Mixed(Named):
        pass

    for kind in (Named, Mixed):
        with kind("fox", None, loud=True, n_threads=1) as model:
            assert (type(model), model.name, model.n_threads) == (kind, "fox!", 1)
        with pytest.raises(TypeError, match=r"did you mean n_threads\?"):
            kind("fox", n_thread=1)


@pytest.mark.parametrize("kind", [BitNetModel, Session, Embedder])
def test_no_docstring_sends_to_a_class_inside(kind: type) -> None:
    for name, member in inspect.getmembers(kind):
        if not name.startswith("_"):
            assert not re.search(r"\w+Source\b|ModelFacts", inspect.getdoc(member) or ""), name


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("n_thread", "did you mean n_threads?"),
        ("kv_type", "did you mean kv_dtype?"),
        ("context_len", "did you mean context_length?"),
        ("model_path", "the arguments are path, n_threads, context_length, "),
    ],
)
def test_a_misspelt_option_of_a_model_is_told_the_nearest_one(name: str, hint: str) -> None:
    options: Any = {name: 3}
    for call in (BitNetModel, load, Embedder):
        with pytest.raises(TypeError) as caught:
            call(**options)
        assert str(caught.value).startswith(f"BitNetModel() has no argument {name!r}; {hint}")


def test_a_misspelt_option_is_found_before_anything_is_downloaded() -> None:
    with pytest.raises(TypeError, match=r"did you mean n_threads\?"):
        BitNetModel.from_pretrained("org/name", n_thread=3)


def test_the_signature_is_that_of_the_class() -> None:
    names = list(inspect.signature(BitNetModel).parameters)
    assert names[:3] == ["path", "n_threads", "context_length"]
    assert "options" not in names
    assert inspect.signature(BitNetModel).parameters["path"].default is None
