"""A template is a program of somebody else. Whatever it does, it ends soon and takes little
memory."""

from __future__ import annotations

import resource
import threading
import time

import pytest
from extras import needs_extra

from ryzanstein_llm.errors import ChatTemplateError
from ryzanstein_llm.text import chat_template
from ryzanstein_llm.text.chat_template import ChatTemplate

needs_extra("chat", "jinja2")

MESSAGES = [{"role": "user", "content": "abcdefgh" * 1000}]

DOUBLED = "{% set ns = namespace(v='a') %}{% for i in range(90) %}%s{% endfor %}{{ ns.v }}"

ENDLESS = {
    "a range": "{% for i in range(10**9) %}{% endfor %}",
    "loops without output": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}"
    "{% endfor %}",
    "loops with output": "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}"
    "{% endfor %}",
    "loops over a text": "{% set s = messages[0].content %}{% for a in s %}{% for b in s %}"
    "{% for c in s %}{% endfor %}{% endfor %}{% endfor %}",
    "loops that never output": "{% set x %}{% for i in range(99999) %}{% for j in range(99999) %}"
    + "y" * 10_000
    + "{% endfor %}{% endfor %}{% endset %}",
    "a macro that calls itself": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "a macro that calls itself twice": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}"
    "{% endif %}{% endmacro %}{{ m(60) }}",
    "a loop that calls itself": "{% for x in [messages] recursive %}{{ loop([messages]) }}"
    "{% endfor %}",
    "a sort of a sort": "{% for i in range(99999) %}{% set x = range(99999) | sort | list %}"
    "{% endfor %}",
    "doubling with +": DOUBLED.replace("%s", "{% set ns.v = ns.v + ns.v %}"),
    "doubling with ~": DOUBLED.replace("%s", "{% set ns.v = ns.v ~ ns.v %}"),
    "doubling with a block": DOUBLED.replace(
        "%s", "{% set x %}{{ ns.v }}{{ ns.v }}{% endset %}{% set ns.v = x %}"
    ),
    "doubling with a list": DOUBLED.replace("%s", "{% set ns.v = [ns.v, ns.v] %}"),
    "doubling with a tuple": DOUBLED.replace("%s", "{% set ns.v = (ns.v, ns.v) %}"),
    "doubling with a dict": DOUBLED.replace("%s", "{% set ns.v = dict(a=ns.v, b=ns.v) %}"),
    "doubling with a literal": DOUBLED.replace("%s", "{% set ns.v = {1: ns.v, 2: ns.v} %}"),
    "doubling with join": DOUBLED.replace("%s", "{% set ns.v = [ns.v, ns.v] | join %}"),
    "doubling with format": DOUBLED.replace("%s", "{% set ns.v = '{0}{0}'.format(ns.v) %}"),
    "doubling with replace": DOUBLED.replace("%s", "{% set ns.v = ns.v.replace('a', 'aa') %}"),
    "many copies of a text": "{% set s = 'a' * 4000000 %}"
    + "".join(f"{{% set a{i} = s[1:] %}}" for i in range(2000)),
    "many copies of a list": "{% set s = [0] * 900000 %}"
    + "".join(f"{{% set a{i} = s | list %}}" for i in range(2000)),
    "many lists": "{% set s = 'a ' * 400000 %}"
    + "".join(f"{{% set a{i} = s.split() %}}" for i in range(2000)),
    "many dictionaries": "".join(
        f"{{% set a{i} = dict.fromkeys(range(99999)) %}}" for i in range(2000)
    ),
    "squaring": "{% set ns = namespace(v=3) %}{% for i in range(90) %}{% set ns.v = ns.v * ns.v %}"
    "{% endfor %}",
}

TOO_LARGE = [
    "'a' * 10**10", "10**10 * 'a'", "[0] * 10**10", "10 ** (10 ** 10)", "2 ** (2 ** 60)",
    "'a' | center(10**10)", "'a'.center(10**10)", "'a'.ljust(10**10)", "'a'.zfill(10**10)",
    "'a'.rjust(width=10**10)", "'%10000000000d' % 1", "'%*d' % (10**9, 1)",
    "'%10000000000d' | format(1)", "'{:10000000000}'.format(1)", "'{:{}}'.format(1, 10**10)",
    "'{:.{n}f}'.format(1.5, n=10**9)", "'a' | indent(10**10)", "'a\\nb' | indent('x' * 10**7)",
    "(['a' * 1000] * 1000) | join('b' * 100000)", "('b' * 100000).join(['a'] * 100000)",
    "('a' * 1000000) | join('b' * 100000)", "('b' * 100000).join('a' * 1000000)",
    "('b' * 100000).join(range(99999) | map('string'))", "'%.*f' % (10**9, 1.5)",
    "'%(a)10000000000d' % {'a': 1}", "('a ' * 8000000).split()", "('a' * 8000000) | list",
    "('a' * 1000000) | replace('a', 'b' * 100000)", "('a' * 1000000).replace('a', 'b' * 100000)",
    "('a' * 1000000).replace('', 'b' * 100000)", "[1] | batch(10**9, 'x') | list",
    "[1] | slice(10**9) | list", "1.5 | round(10**9, 'ceil')", "'a'.expandtabs(10**9)",
    "('a b ' * 100000) | wordwrap(1, wrapstring='x' * 1000000)", "'a'.translate({97: 'b' * 10**6})",
    "1 | tojson(indent=10**10)", "[1, 2] | tojson(separators=('x' * 10**7, ':'))",
    "strftime_now('%10000000000d')", "'abc' | string | center(2**80)", "lipsum(n=10**6)",
    "messages | urlize", "''.__class__.__mro__[1].__subclasses__()", "''['__class__'].x",
    "dict.__class__.x", "namespace(__a=1)",
]  # fmt: skip


@pytest.fixture(autouse=True)
def short_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "SECONDS", 0.2)


def refused(source: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.thread_time()
    with pytest.raises(ChatTemplateError):
        ChatTemplate(source).render(MESSAGES)
    # A loaded machine does not count. One step may take as long as the limit again.
    assert time.thread_time() - begin < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB


@pytest.mark.parametrize("source", ENDLESS.values(), ids=ENDLESS)
def test_what_would_not_end_is_ended(source: str) -> None:
    refused(source)


@pytest.mark.parametrize("expression", TOO_LARGE)
def test_what_would_be_too_large_is_refused_before(expression: str) -> None:
    for form in ("{{ %s }}", "{%% set x = %s %%}", "{%% if %s %%}{%% endif %%}"):
        refused(form % expression)


def test_a_long_conversation_is_not_too_long() -> None:
    source = (
        "{% for m in messages %}{% if loop.index0 == messages | length - 1 %}last {% endif %}"
        "<|{{ m.role }}|>{{ m.content | trim }}{{ m | tojson }}\n{% endfor %}"
    )
    messages = [{"role": "user", "content": "Äpfel und Birnen. " * 100}] * 1000
    expected = len(ChatTemplate(source).render(messages[:1])) - len("last ")
    chat_template.SECONDS = 5.0
    assert len(ChatTemplate(source).render(messages)) == expected * 1000 + len("last ")


def test_budgets_of_threads_are_their_own() -> None:
    texts: list[str] = []

    def good() -> None:
        for _ in range(50):
            texts.append(ChatTemplate("{% for i in range(99) %}a{% endfor %}").render(MESSAGES))

    threads = [threading.Thread(target=good) for _ in range(4)]
    for thread in threads:
        thread.start()
    refused(ENDLESS["loops with output"])
    for thread in threads:
        thread.join()
    assert texts == ["a" * 99] * 200
