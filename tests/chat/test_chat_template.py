"""Templates are rendered as transformers renders them. `test_released_templates.py` compares with
it; here each feature has a template of its own."""

from __future__ import annotations

import pickle
import re
from datetime import datetime
from typing import Any

import pytest
from extras import needs_extra

from ryzanstein_llm.errors import ChatTemplateError, MissingExtraError
from ryzanstein_llm.text import chat_template
from ryzanstein_llm.text.chat_template import ChatTemplate, named_templates, special_token_texts

needs_extra("chat", "jinja2")

USER = [{"role": "user", "content": "Hi"}]


def render(source: str, messages: Any = USER, **arguments: Any) -> str:
    return ChatTemplate(source, {"bos_token": "<s>"}).render(messages, **arguments)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ messages[0]['content'] }}|{{ messages[0].content }}", "Hi|Hi"),
        ("{{ bos_token }}{{ eos_token }}", "<s>"),
        ("{% if true %}\n  a\n  {% endif %}\nb\n", "  a\nb"),
        ("{% for i in range(9) %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}", "012"),
        ("{% for i in [1, 2] %}{% continue %}x{% endfor %}", ""),
        ("{% for i in [1, 2] %}{{ loop.length }}{{ loop.last }}{{ loop.previtem }};{% endfor %}",
         "2False;2True1;"),
        ("{{ ['ä<', {'b': none}] | tojson }}", '["ä<", {"b": null}]'),
        ("{{ {'b': 1, 'a': 2} | tojson(indent=1, sort_keys=true) }}", '{\n "a": 2,\n "b": 1\n}'),
        ("{{ 'ä' | tojson(ensure_ascii=true) }}", '"\\u00e4"'),
        ("{{ [1] | tojson(separators=(',', ':')) }}", "[1]"),
        ("a{% generation %}b{{ messages[0].role }}{% endgeneration %}c", "abuserc"),
        ("{% set ns = namespace(n=1) %}{% for i in [1, 2] %}{% set ns.n = ns.n + i %}{% endfor %}"
         "{{ ns.n }}", "4"),
        ("{% macro f(x) %}<{{ x }}>{% endmacro %}{{ f(1) ~ f('a') }}", "<1><a>"),
        ("{% set x %}a{{ 1 }}{% endset %}{{ x * 2 }}", "a1a1"),
        ("{{ dict(a=1) }}{{ (1, 'b') }}{{ 'abc'[::-1] }}{{ '%s-%03d' % ('x', 7) }}",
         "{'a': 1}(1, 'b')cbax-007"),
        ("{{ '{:>3}|{a}'.format(1, a='b') }}", "  1|b"),
        ("{{ '**%s** of 20261127: %5.1f%%' % ('a', 2) }}", "**a** of 20261127:   2.0%"),
        ("{{ '**%s** 20261127' | format('a') }}{{ '20261127 {}*'.format(1) }}",
         "**a** 2026112720261127 1*"),
        ("{{ messages[0].nothing }}{{ nothing is defined }}", "False"),
        ("{{ tools is none }}{{ documents is none }}{{ add_generation_prompt }}", "TrueTrueTrue"),
        ("{{ ' a ' | trim }}{{ ['a', 'b'] | join(',') }}"
         "{{ messages | map(attribute='role') | list }}",
         "aa,b['user']"),
        ("{{ 'a' in 'abc' }}{{ 'abc'.startswith('a') }}{{ 'a,b'.split(',') }}",
         "TrueTrue['a', 'b']"),
        ("{% for a in [[1, [2]]] recursive %}{{ loop.depth }}{% if a is iterable %}{{ loop(a) }}"
         "{% endif %}{% endfor %}", "1223"),
    ],
)  # fmt: skip
def test_what_templates_use(source: str, text: str) -> None:
    assert render(source) == text


def test_arguments_reach_the_template_and_replace_special_tokens() -> None:
    source = "{{ enable_thinking }}{{ tools[0].name }}{{ documents[0].text }}{{ bos_token }}"
    text = render(
        source,
        tools=[{"name": "f"}],
        documents=[{"text": "d"}],
        enable_thinking=False,
        bos_token="<b>",
    )
    assert text == "Falsefd<b>"


def test_the_generation_prompt_can_be_left_out() -> None:
    source = "{% if add_generation_prompt %}assistant{% endif %}"
    assert (render(source), render(source, add_generation_prompt=False)) == ("assistant", "")


def test_the_date_is_that_of_today() -> None:
    before = datetime.now().strftime("%Y-%m-%d")
    text = render("{{ strftime_now('%Y-%m-%d') }}")
    assert text in (before, datetime.now().strftime("%Y-%m-%d"))


def test_reasoning_has_all_its_names() -> None:
    source = "{{ messages[0].reasoning_content }}{{ messages[0].thinking }}"
    for name in ("reasoning_content", "thinking", "reasoning"):
        assert render(source, [{"role": "assistant", "content": "", name: "hm"}]) == "hmhm"


def test_a_null_counts_as_missing() -> None:
    message = {"role": "assistant", "content": None, "tool_calls": None}
    assert (
        render("{{ messages[0].content }}{{ 'tool_calls' in messages[0] }}", [message]) == "False"
    )


def test_the_reason_of_a_refusal_is_the_templates_own() -> None:
    with pytest.raises(ChatTemplateError, match=r"refuses.*roles must alternate") as caught:
        render("{{ raise_exception('roles must alternate') }}")
    assert caught.value.reason == "roles must alternate"
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.reason) == (str(caught.value), "roles must alternate")


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("a\n{% if %}", "line 2.*Expected an expression"),
        ("a\n{{ 1 + messages }}", "line 2.*unsupported operand"),
        ("\n\n{{ messages[0].a.b }}", "line 3.*no attribute 'a'"),
        ("{{ messages | nothing }}", "No filter named 'nothing'"),
        ("{% include 'x' %}", "no loader"),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "recursion without end"),
    ],
)
def test_a_wrong_template_names_the_line(source: str, problem: str) -> None:
    with pytest.raises(ChatTemplateError, match=problem) as caught:
        render(source)
    assert caught.value.reason is None


def test_templates_see_plain_values_only() -> None:
    class Text(str):
        def secret(self) -> str:
            return "secret"

    message = [{"role": "user", "content": Text("a")}]
    assert render("{{ messages[0].content.secret is defined }}", message) == "False"
    with pytest.raises(ChatTemplateError, match="values that JSON has"):
        render("", [{"role": "user", "content": object()}])


def test_a_template_cannot_change_the_messages() -> None:
    with pytest.raises(ChatTemplateError, match="unsafe"):
        render("{{ messages.append(1) }}")


def test_a_template_is_compiled_once() -> None:
    chat_template._compiled.cache_clear()
    for _ in range(3):
        render("{{ messages[0].role }} once")
    assert chat_template._compiled.cache_info().misses == 1


def test_without_jinja2_the_error_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ryzanstein_llm.text.bounded_jinja", None)
    chat_template._environment.cache_clear()
    chat_template._compiled.cache_clear()
    with pytest.raises(MissingExtraError, match=re.escape('pip install "ryzanstein_llm[chat]"')):
        render("x")
    with pytest.raises(ImportError):
        render("x")


def test_an_old_jinja2_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "version", lambda name: "3.1.5")
    chat_template._environment.cache_clear()
    chat_template._compiled.cache_clear()
    with pytest.raises(MissingExtraError, match=r"3\.1\.6 or newer.*found 3\.1\.5: pip install"):
        render("x")


def test_named_templates() -> None:
    assert named_templates({}) == {}
    assert named_templates({"chat_template": "a"}) == {"default": "a"}
    listed = [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}, 3]
    assert named_templates({"chat_template": listed}) == {"default": "a", "tool_use": "b"}


def test_special_tokens_are_texts_or_objects() -> None:
    config = {
        "bos_token": "<s>",
        "eos_token": {"content": "</s>"},
        "pad_token": None,
        "x_token": "x",
    }
    assert special_token_texts(config) == {"bos_token": "<s>", "eos_token": "</s>"}
