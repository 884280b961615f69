"""Conversations of tasks as text."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from ryzanstein_llm import BitNetModel
from ryzanstein_llm.errors import ChatTemplateError
from ryzanstein_llm.evaluation import TaskChat

TURNS = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{{ opening }}{% endif %}"
)
TALK = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because "}]


@pytest.fixture(scope="module")
def model() -> Iterator[BitNetModel]:
    with BitNetModel(n_threads=1) as opened:
        yield opened


def chat(model: BitNetModel, template: str | None, **arguments: Any) -> TaskChat:
    return TaskChat(model, template, arguments)


def test_a_conversation_ends_with_the_beginning_of_an_answer(model: BitNetModel) -> None:
    assert chat(model, TURNS).text(TALK[:1], True) == "<user>Why?</>\n<assistant>"
    assert chat(model, TURNS, opening="Well").text(TALK[:1], True).endswith("<assistant>Well")


def test_or_within_the_last_message(model: BitNetModel) -> None:
    assert chat(model, TURNS).text(TALK, False) == "<user>Why?</>\n<assistant>Because "
    trimming = TURNS.replace("m.content", "m.content | trim")
    assert chat(model, trimming).text(TALK, False) == "<user>Why?</>\n<assistant>Because"
    assert TALK[1]["content"] == "Because "
    with pytest.raises(ChatTemplateError, match="does not show the end of the last message"):
        chat(model, "{{ messages[0].content }}").text(TALK, False)


def test_system_messages_are_left_out_if_the_template_refuses_them(
    model: BitNetModel, caplog: pytest.LogCaptureFixture
) -> None:
    strict = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + TURNS
    talk = [{"role": "system", "content": "Be brief."}, *TALK]
    with caplog.at_level(logging.WARNING, "ryzanstein_llm"):
        assert chat(model, strict).text(talk, False) == chat(model, TURNS).text(TALK, False)
    assert "system messages are left out" in caplog.text
    with pytest.raises(ChatTemplateError, match="never"):
        chat(model, "{{ raise_exception('never') }}").text(TALK, True)


def test_without_a_template_there_is_an_error_only_when_it_is_needed(model: BitNetModel) -> None:
    without = chat(model, None)
    with pytest.raises(ChatTemplateError, match="has no chat template"):
        without.text(TALK, True)


def test_of_transformers_the_same_text(model: BitNetModel) -> None:
    """Needs the extra `parity`."""
    pytest.importorskip("transformers", reason="needs the extra parity")
    from transformers.utils.chat_template_utils import render_jinja_template

    for template in (TURNS, TURNS.replace("m.content", "m.content | trim")):
        for last in ("Because ", "Because", " \n"):
            talk = [TALK[0], {"role": "assistant", "content": f"a{last}"}]
            (theirs,), _ = render_jinja_template(
                [talk], chat_template=template, continue_final_message=True
            )
            assert chat(model, template).text(talk, False) == theirs
