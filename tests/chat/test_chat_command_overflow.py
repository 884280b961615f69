"""`ryzanstein-llm chat` when the context is full, and after a turn that failed."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ryzanstein_llm import BitNetModel, SamplingParams
from ryzanstein_llm.cli import main

Talk = Callable[..., tuple[int, str, str]]

FORGOTTEN = "ryzanstein-llm: the context is full; the oldest part is forgotten"
LONG = "Tell me more about the fox and the king\n" * 8
SHORT = ("-n", "20", "-c", "64")


def test_a_tale_goes_on_when_the_context_is_full(talk: Talk) -> None:
    code, out, err = talk(LONG, *SHORT)
    options: dict[str, Any] = {"max_tokens": 20, "overflow": "shift"}
    with BitNetModel(context_length=64) as model, model.session() as session:
        options["sampling"] = SamplingParams.from_checkpoint(model, seed=0)
        told, forgotten, notes = "", 0, []
        for number, line in enumerate(LONG.splitlines()):
            result = session.generate(" " * bool(number) + line, **options, return_result=True)
            told += f"{result.text.lstrip()}\n"
            if result.dropped_tokens:
                forgotten += result.dropped_tokens
                notes.append(f"{FORGOTTEN}: {forgotten} tokens so far\n")
    assert (code, out) == (0, told)
    assert len(notes) > 2
    assert err == "".join(note for note in notes)


def test_a_conversation_goes_on_when_the_context_is_full(talk: Talk, template: str) -> None:
    code, out, err = talk(LONG, *SHORT, "--chat-template", template, "--system", "Be brief.")
    with BitNetModel(context_length=64) as model:
        session = model.chat_session(
            "Be brief.", chat_template=Path(template).read_text(), max_tokens=20, seed=0
        )
        results = [session.send(line, overflow="truncate") for line in LONG.splitlines()]
    assert (code, out) == (0, "".join(f"{result.text.lstrip()}\n" for result in results))
    dropped = sorted({result.dropped_messages for result in results} - {0})
    assert len(dropped) > 2
    assert err == "".join(f"{FORGOTTEN}: {count} messages so far\n" for count in dropped)


@pytest.mark.parametrize("chats", [False, True])
def test_a_turn_that_fails_does_not_end_the_program(talk: Talk, template: str, chats: bool) -> None:
    given = [*SHORT, "--overflow", "error", *(["--chat-template", template] if chats else [])]
    code, out, err = talk(LONG + "/clear\nThe fox\n", *given)
    assert code == 2
    assert "/set overflow" in err
    assert "/clear" in err
    assert err.count("error: ") == err.count("\n") > 3
    _, alone, _ = talk("The fox\n", *given)
    assert out.endswith(alone)


def test_what_happens_when_the_context_is_full_can_be_set(talk: Talk) -> None:
    _, expected, _ = talk(LONG, *SHORT)
    code, out, _ = talk(f"/set overflow shift\n{LONG}", *SHORT, "--overflow", "error")
    assert (code, out) == (0, expected)
    code, out, _ = talk(f"/set overflow error\n{LONG}", *SHORT)
    assert code == 2
    assert expected.startswith(out.rsplit("\n", 2)[0])
    for kind in ("error", "truncate", "shift"):
        assert f"overflow {kind}\n" in talk("/set\n", "--overflow", kind)[2]


def test_an_answer_without_end_is_as_long_as_the_context(talk: Talk, tmp_path: Path) -> None:
    path = tmp_path / "tale.json"
    code, _, err = talk(f"The fox\n/save {path}\n", "-n", "-1", "-c", "64", "-s", "2")
    assert (code, err.count("is forgotten")) == (0, 1)
    with BitNetModel(context_length=64) as model:
        text = model.generate(
            "The fox",
            max_tokens=64,
            overflow="shift",
            sampling=SamplingParams.from_checkpoint(model, seed=2),
        )
    assert json.loads(path.read_text())["text"] == f"The fox{text}"


def test_retry_begins_where_the_turn_began_also_after_a_shift(talk: Talk) -> None:
    given = LONG.splitlines()[:3]
    _, once, _ = talk("\n".join(given) + "\n/retry\n", *SHORT)
    _, again, _ = talk("\n".join(given) + "\n/retry\n/retry\n/set seed 0\n", *SHORT)
    assert again.startswith(once)
    with BitNetModel(context_length=64) as model, model.session() as session:
        for seed, line in zip((0, 0, 2), given, strict=True):
            sampling = SamplingParams.from_checkpoint(model, seed=seed)
            text = session.generate(
                ("" if line is given[0] else " ") + line,
                max_tokens=20,
                overflow="shift",
                sampling=sampling,
            )
    assert again.endswith(f"{text.lstrip()}\n")


def test_a_tale_longer_than_the_context_is_saved_whole_and_loaded(
    talk: Talk, tmp_path: Path
) -> None:
    path = tmp_path / "tale.json"
    _, told, _ = talk(f"{LONG}/save {path}\n", *SHORT)
    text = json.loads(path.read_text())["text"]
    assert text.startswith("Tell me more")
    assert text.endswith(told.splitlines()[-1])
    code, out, err = talk(f"/load {path}\nBut\n", *SHORT)
    assert (code, bool(out.strip())) == (0, True)
    assert "is forgotten: " in err
    code, out, err = talk(f"/load {path}\nBut\n", *SHORT, "--overflow", "error")
    assert (code, err.count("error: ")) == (2, 1)
    assert out == talk("But\n", *SHORT)[1]


def test_text_that_is_not_utf8_is_one_bad_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], talk: Talk
) -> None:
    _, expected, _ = talk("The fox\n", "-n", "5")
    raw = io.BytesIO(b"Gr\xfc\xdfe\nThe fox\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(raw))
    assert main(["chat", "-n", "5"]) == 2
    out, err = capsys.readouterr()
    assert out == expected
    assert "standard input is not UTF-8" in err
