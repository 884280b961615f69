"""`ryzanstein-llm chat`, with the demo model, through pipes and in a terminal."""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from extras import needs_extra

from ryzanstein_llm import BitNetModel, SamplingParams
from ryzanstein_llm.cli.answer_printer import AnswerPrinter
from ryzanstein_llm.cli.talk import Answer, ChatTalk, TaleTalk
from ryzanstein_llm.errors import ContextOverflowError, SessionNotFoundError
from ryzanstein_llm.formats import new_file

TURNS = (
    "{% for m in messages %}{{ bos_token }}{{ m.role }}\n{{ m.content }}{{ eos_token }}\n"
    "{% endfor %}{% if add_generation_prompt %}{{ bos_token }}assistant\n{% endif %}"
)

Talk = Callable[..., tuple[int, str, str]]


def test_the_demo_model_tells_on(talk: Talk) -> None:
    code, out, err = talk("Once upon a time\nBut the fox\n", "-n", "15")
    with BitNetModel() as model, model.session() as session:
        sampling = SamplingParams.from_checkpoint(model, seed=0)
        told = [
            session.generate(text, max_tokens=15, sampling=sampling)
            for text in ("Once upon a time", " But the fox")
        ]
    assert (code, err) == (0, "")
    assert out == "".join(f"{text.lstrip()}\n" for text in told)


def test_with_a_template_it_answers(talk: Talk, template: str) -> None:
    code, out, err = talk(
        "Who was the king?\nWhy?\n",
        "--chat-template",
        template,
        "--system",
        "Be brief.",
        "-n",
        "15",
    )
    with BitNetModel() as model:
        session = model.chat_session("Be brief.", chat_template=TURNS, max_tokens=15, seed=0)
        answers = [session.send(text).text for text in ("Who was the king?", "Why?")]
    assert (code, err) == (0, "")
    assert out == "".join(f"{text.lstrip()}\n" for text in answers)


def test_retry_has_another_seed(talk: Talk, template: str) -> None:
    _, out, _ = talk("Hi\n/retry\n/retry\n", "--chat-template", template, "-n", "12", "-s", "3")
    with BitNetModel() as model:
        session = model.chat_session(chat_template=TURNS, max_tokens=12, seed=3)
        answers = [session.send("Hi"), session.retry(seed=4), session.retry(seed=5)]
    assert out == "".join(f"{answer.text.lstrip()}\n" for answer in answers)
    _, tale, _ = talk("The fox\n/retry\n", "-n", "12")
    _, other, _ = talk("The fox\n", "-n", "12", "-s", "1")
    assert tale.endswith(other)
    assert not tale.startswith(other)


def test_a_message_after_a_retry_has_the_seed_that_was_given(talk: Talk, template: str) -> None:
    given = ("--chat-template", template, "-n", "12", "-s", "3")
    _, out, _ = talk("Hi\n/retry\nWhy?\n", *given)
    with BitNetModel() as model:
        session = model.chat_session(chat_template=TURNS, max_tokens=12, seed=3)
        answers = [session.send("Hi"), session.retry(seed=4), session.send("Why?")]
    assert out == "".join(f"{answer.text.lstrip()}\n" for answer in answers)


def test_set_shows_what_is_in_effect(talk: Talk) -> None:
    _, _, shown = talk("/set\n", "-s", "5", "--top-k", "7")
    with BitNetModel() as model:
        params = SamplingParams.from_checkpoint(model, seed=5, top_k=7)
    lines = dict(line.split() for line in shown.splitlines())
    assert lines.pop("max_tokens") == "100"
    assert lines.pop("overflow") == "shift"
    assert {name: float(value) for name, value in lines.items()} == vars(params)
    _, out, shown = talk("/set temperature\n/set max-tokens=none\n/set max_tokens\n/set seed=\n")
    assert (out, shown) == ("", f"temperature {params.temperature:g}\nmax_tokens none\nseed 0\n")


def test_options_can_be_set(talk: Talk) -> None:
    code, out, shown = talk("/set temperature\t 0\n/set max-tokens = 3\n/set\nThe fox\n")
    assert code == 0
    assert "temperature 0\n" in shown
    assert "max_tokens 3\n" in shown
    with BitNetModel() as model:
        greedy = SamplingParams.from_checkpoint(model, temperature=0)
        text = model.generate("The fox", max_tokens=3, sampling=greedy)
    assert out == f"{text.lstrip()}\n"


def test_a_conversation_is_saved_and_loaded(talk: Talk, template: str, tmp_path: Path) -> None:
    path = tmp_path / "a chat.json"
    given = ("--chat-template", template, "-n", "10")
    _, first, _ = talk(f"Grüße\n/save {path}\nWhy?\n", *given)
    saved = json.loads(path.read_text(encoding="utf-8"))
    assert [each["content"] for each in saved["messages"][:1]] == ["Grüße"]
    _, again, _ = talk(f"/load {path}\nWhy?\n", *given)
    assert again == "".join(first.splitlines(keepends=True)[-len(again.splitlines()) :])
    tale = tmp_path / "tale.json"
    _, told, _ = talk(f"The fox\n/save {tale}\n", "-n", "10")
    assert json.loads(tale.read_text())["text"].endswith(told.strip())
    assert talk(f"/load {tale}\nBut\n", "-n", "5")[0] == 0


@pytest.mark.parametrize("chats", [False, True])
def test_a_save_that_fails_leaves_the_old_file(
    talk: Talk, template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chats: bool
) -> None:
    given = ("-n", "5", *(["--chat-template", template] if chats else []))
    folder = tmp_path / "saved"
    folder.mkdir()
    path = folder / "chat.json"
    assert talk(f"The fox\n/save {path}\n", *given)[0] == 0
    saved = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(new_file.os, "fsync", full)
        code, out, err = talk(f"The king\n/save {path}\nAnd\n", *given)
    assert (code, out.count("\n")) == (2, 2)
    assert err == f"ryzanstein-llm: error: {path}: No space left on device\n"
    assert [each.name for each in folder.iterdir()] == ["chat.json"]
    assert path.read_bytes() == saved
    missing = folder / "missing" / "chat.json"
    _, _, err = talk(f"/save {missing}\n", *given)
    assert err == f"ryzanstein-llm: error: {missing}: there is no folder {missing.parent}\n"


@pytest.mark.parametrize("chats", [False, True])
def test_a_saved_file_that_is_missing_is_no_missing_checkpoint(
    talk: Talk, template: str, tmp_path: Path, chats: bool
) -> None:
    path = tmp_path / "nothing.json"
    code, _, err = talk(f"/load {path}\n", *(["--chat-template", template] if chats else []))
    assert (code, err) == (2, f"ryzanstein-llm: error: {path}: No such file or directory\n")
    with BitNetModel() as model:
        kind = ChatTalk(model, None, TURNS) if chats else TaleTalk(model)
        with pytest.raises(SessionNotFoundError, match=r"nothing\.json"):
            kind.load(str(path), {})


def test_a_file_of_the_other_kind_of_model_is_refused(
    talk: Talk, template: str, tmp_path: Path
) -> None:
    tale, conversation = tmp_path / "tale.json", tmp_path / "chat.json"
    talk(f"The fox\n/save {tale}\n", "-n", "3")
    talk(f"The fox\n/save {conversation}\n", "-n", "3", "--chat-template", template)
    code, _, err = talk(f"/load {tale}\n", "--chat-template", template)
    assert code == 2
    assert f"{tale}: is a text, not a conversation" in err
    code, _, err = talk(f"/load {conversation}\n")
    assert code == 2
    assert f"{conversation}: is a conversation, for models with a chat template" in err


def test_a_system_message_can_be_replaced(talk: Talk, template: str, tmp_path: Path) -> None:
    path = tmp_path / "chat.json"
    talk(f"Hi\n/system Be kind.\n/save {path}\n", "--chat-template", template, "-n", "4")
    messages = json.loads(path.read_text())["messages"]
    assert [each["role"] for each in messages] == ["system", "user", "assistant"]
    talk(f"Hi\n/clear\n/save {path}\n", "--chat-template", template, "-n", "4")
    assert json.loads(path.read_text())["messages"] == []


def test_messages_of_several_lines_and_with_a_slash(
    talk: Talk, template: str, tmp_path: Path
) -> None:
    path = tmp_path / "chat.json"
    lines = f'"""\none\n\n/two\n"""\n\n//help\n/save {path}\n/exit\nnever read\n'
    assert talk(lines, "--chat-template", template, "-n", "2")[0] == 0
    said = [m["content"] for m in json.loads(path.read_text())["messages"] if m["role"] == "user"]
    assert said == ["one\n\n/two", "/help"]


def test_help_lists_the_commands(talk: Talk) -> None:
    _, _, shown = talk("/help\n")
    for name in ("help", "system", "set", "retry", "clear", "save", "load", "exit"):
        assert f"/{name}" in shown


def test_help_is_no_wider_than_a_terminal(talk: Talk) -> None:
    _, _, shown = talk("/help\n")
    assert max(map(len, shown.splitlines())) <= 80


def test_through_a_pipe_only_answers_are_on_standard_output(talk: Talk, tmp_path: Path) -> None:
    _, plain, _ = talk("The fox\nBut the king\n", "-n", "5")
    _, out, _ = talk("/help\n/set\nThe fox\n/set seed 0\n/help\nBut the king\n/set\n", "-n", "5")
    assert out == plain
    path = tmp_path / "tale.json"
    code, out, err = talk(f"/clear\n/save {path}\n/load {path}\n/set seed 1\n", "-n", "5")
    assert (code, out, err) == (0, "", "")


@pytest.mark.parametrize(
    ("lines", "arguments", "problem"),
    [
        ("", ["--temperature", "-1"], "--temperature must be in [0, 100], not -1"),
        ("", ["--system", "a"], "--system needs a model with a chat template"),
        ("", ["--chat-template", "nothing"], "nothing: No such file or directory"),
        ("", ["--overflow", "cut"], "--overflow must be one of 'error', 'truncate', 'shift'"),
        ("/set overflow cut\n", [], "overflow must be one of 'error', 'truncate', 'shift'"),
        ("", ["-n", "-2"], "-n must be in -1..2147483648, not -2"),
        ("/nothing\n", [], "there is no command /nothing; /help shows all"),
        ("/set = 3\n", [], "there is no option '3'; the options are max_tokens, temperature"),
        ("/load a\0b\n", [], "embedded null"),
        ("/set heat 3\n", [], "there is no option 'heat'; the options are max_tokens, temperature"),
        ("/set temprature 1\n", [], "no option 'temprature'; did you mean temperature?"),
        ("/set max_tokens no\n", [], "max_tokens must be an integer or none, not 'no'"),
        ("/set overflow random\n", [], "'error', 'truncate', 'shift', not 'random'"),
        ("/rety\n", [], "there is no command /rety; did you mean /retry?"),
        ("/retry now\n", [], "/retry takes nothing after it, and this is 'now'"),
        ("/exit now\n", [], "/exit takes nothing after it, and this is 'now'"),
        ("/set top_k x\n", [], "top_k must be an integer, not 'x'"),
        ("/set top_p 2\n", [], "top_p must be in (0, 1], not 2"),
        ("/save\n", [], "/save needs a path"),
        ("/load nothing\n", [], "nothing: No such file or directory"),
        ("/retry\n", [], "there is no answer yet"),
        ("/system a\n", [], "has no system message"),
    ],
)
def test_errors_name_what_was_typed(
    talk: Talk, lines: str, arguments: list[str], problem: str
) -> None:
    code, out, err = talk(lines, *arguments)
    assert (code, out) == (2, "")
    assert f"error: {problem}" in err or problem in err
    assert err.count("\n") == 1


def shown(answer: Answer, capsys: pytest.CaptureFixture[str], *, stopped: bool = False) -> str:
    """What a terminal shows after an answer. `stopped`: Ctrl-C came while the prompt was read."""
    if stopped:
        answer.cancel()
    AnswerPrinter(True, 512).show(answer)
    return capsys.readouterr().err


@pytest.mark.parametrize("chats", [False, True])
def test_retry_asks_again_what_was_stopped_before_an_answer(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, chats: bool
) -> None:
    if chats:
        needs_extra("chat", "jinja2")
    options = {"max_tokens": 5, "seed": 0, "overflow": "error"}
    with BitNetModel() as model:
        talk = ChatTalk(model, None, TURNS) if chats else TaleTalk(model)
        used = shown(talk.ask("The fox", options), capsys).partition(" of 512")[0].split()[-1]
        note = shown(talk.ask("The king", options), capsys, stopped=True)
        assert note == (
            f"({used} of 512 tokens of the context, stopped before an answer; /retry asks again)\n"
        )
        shown(talk.retry(options), capsys)
        talk.save(str(tmp_path / "saved.json"))
        saved = (tmp_path / "saved.json").read_text()
        assert saved.index("The fox") < saved.index("The king")
        with pytest.raises(ContextOverflowError):
            talk.ask("But " * 600, options)
        with pytest.raises(ContextOverflowError):
            talk.retry(options)
        talk.save(str(tmp_path / "saved.json"))
        assert (tmp_path / "saved.json").read_text() == saved


def test_what_was_stopped_is_asked_again_after_another_system_message(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    needs_extra("chat", "jinja2")
    path, options = tmp_path / "saved.json", {"max_tokens": 5, "seed": 0}
    with BitNetModel() as model:
        talk = ChatTalk(model, None, TURNS)
        shown(talk.ask("The fox", options), capsys)
        shown(talk.ask("The king", options), capsys, stopped=True)
        talk.set_system("Be brief.")
        talk.set_system("Be kind.")
        note = shown(talk.retry(options), capsys, stopped=True)
        assert note == "(stopped before an answer; /retry asks again)\n"
        shown(talk.retry(options), capsys)
        talk.save(str(path))
        messages = json.loads(path.read_text())["messages"]
        assert [each["role"] for each in messages] == ["system", *["user", "assistant"] * 2]
        assert [messages[0]["content"], messages[3]["content"]] == ["Be kind.", "The king"]
        shown(talk.ask("The king", options), capsys, stopped=True)
        talk.load(str(path), options)
        shown(talk.retry(options), capsys)
        talk.save(str(path))
        assert len(json.loads(path.read_text())["messages"]) == 5


# ---- in a terminal --------------------------------------------------------------------------


# The first terminal that a new session opens is the one whose Ctrl-C it gets.
IN_TERMINAL = """
import os, sys
os.close(os.open(os.ttyname(0), os.O_RDWR))
from ryzanstein_llm.cli import main
sys.exit(main())
"""


class Terminal:
    """The command in a pseudo-terminal."""

    def __init__(self, term: str, *arguments: str, columns: int = 80) -> None:
        pty = pytest.importorskip("pty", reason="there are no pseudo-terminals")
        self.end, inner = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", IN_TERMINAL, "chat", *arguments],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            start_new_session=True,
            env={**os.environ, "TERM": term, "PROMPT_TOOLKIT_NO_CPR": "1", "COLUMNS": str(columns)},
        )
        os.close(inner)
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self.end, text.encode("utf-8"))

    def expect(self, text: str, seconds: float = 60) -> str:
        """Wait for a text after what was expected before. Returns what stands between the two."""
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < deadline, f"no {text!r} in {self.seen!r}"
            if select.select([self.end], [], [], 0.2)[0]:
                self.seen += os.read(self.end, 65536).decode("utf-8", "replace")
        between, _, self.seen = self.seen.partition(text)
        return between

    def close(self) -> int:
        try:
            return self.process.wait(30)
        finally:
            self.process.kill()
            os.close(self.end)


@pytest.mark.parametrize("term", ["dumb", "xterm"])
def test_ctrl_c_stops_the_answer_and_not_the_program(term: str) -> None:
    if term == "xterm":
        needs_extra("chat", "prompt_toolkit")
    terminal = Terminal(term, "-n", "-1", "-t", "1")
    prompt = "> " if term == "dumb" else "\x1b[?25h"  # the editor shows its cursor
    terminal.expect("/help shows the commands")
    terminal.expect(prompt)
    enter = "\n" if term == "dumb" else "\r"
    terminal.type(f"Once upon a time{enter}")
    terminal.expect("there")  # the answer has begun
    terminal.type("\x03")
    terminal.expect("tokens of the context, stopped)")
    terminal.expect(prompt)
    terminal.type(f"/set top_k nothing{enter}")
    terminal.expect("error: top_k must be an integer, not 'nothing'")
    terminal.expect(prompt)
    terminal.type("\x03")
    terminal.expect("Ctrl-D or /exit ends")
    terminal.expect(prompt)
    terminal.type("\x04")
    assert terminal.close() == 0


def test_a_terminal_shows_what_is_forgotten_and_how_much_is_left() -> None:
    terminal = Terminal("dumb", "-c", "64", "-n", "20", "-t", "1")
    for line in ("Once upon a time", "But the fox", "And the king"):
        terminal.expect("> ")
        terminal.type(f"{line}\n")
    terminal.expect("(the context is full; the oldest part is forgotten: ")
    terminal.expect(" tokens so far)")
    terminal.expect("tokens/s, ")
    used = terminal.expect(" of 64 tokens of the context, cut off)")
    assert 20 < int(used) < 64
    terminal.type("\x04")
    assert terminal.close() == 0


def test_a_narrow_terminal_breaks_lines_between_words(tmp_path: Path) -> None:
    terminal, path = Terminal("dumb", "-n", "3", "-t", "1", columns=40), tmp_path / "tale.json"
    for line in ("/help", "The fox", "/set top_k nothing", "/load none", f"/save {path}", "/clear"):
        terminal.expect("> ")
        terminal.type(f"{line}\n")
        shown = terminal.expect("> ").split("\r\n")[1:]  # after what was typed
        terminal.seen = "> " + terminal.seen
        words = [line for line in shown if " " in line.strip()]  # a word alone may be longer
        assert [line for line in words if len(line) > 40] == [], shown
    assert "(a new conversation)" in shown
    terminal.type("\x04")
    assert terminal.close() == 0


def test_a_terminal_confirms_what_was_done(tmp_path: Path) -> None:
    terminal, path = Terminal("dumb", "-n", "3", "-t", "1", columns=200), tmp_path / "tale.json"
    for line, answer in (
        (f"/save {path}", f"(saved as {path})"),
        (f"/load {path}", f"(loaded from {path})"),
        ("/set temperature 0.50", "(temperature 0.5)"),
        ("/clear", "(a new conversation)"),
    ):
        terminal.expect("> ")
        terminal.type(f"{line}\n")
        terminal.expect(answer)
    terminal.type("\x04")
    assert terminal.close() == 0


def test_ctrl_c_ends_a_program_that_reads_from_a_pipe() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "ryzanstein_llm", "chat", "-n", "-1", "-t", "1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"Once upon a time\n" * 100)
        process.stdin.flush()
        process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        process.stdin.close()
        assert process.wait(60) == 130
