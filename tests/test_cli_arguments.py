"""What the command line understands: spellings, values, prompts; and what it says where it does
not."""

from __future__ import annotations

import io
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from stand_in_engine import stand_in

import ryzanstein_llm.bench
from ryzanstein_llm import errors
from ryzanstein_llm.cli import main, program, prompt
from ryzanstein_llm.errors import ContextOverflowError, InvalidParameterError

COMMANDS = (
    "generate",
    "chat",
    "embed",
    "eval",
    "info",
    "doctor",
    "convert",
    "bench",
    "cache",
    "completion",
)


@pytest.fixture
def engine(monkeypatch):
    return stand_in(monkeypatch)


@pytest.fixture
def stdin(monkeypatch):
    """Put bytes on standard input."""

    def put(raw, terminal=False):
        stream = io.TextIOWrapper(io.BytesIO(raw), encoding="ascii")
        monkeypatch.setattr(stream, "isatty", lambda: terminal, raising=False)
        monkeypatch.setattr(sys, "stdin", stream)

    return put


class TestSpellings:
    def test_those_of_llama_cpp(self, engine):
        command = (
            "generate -m dir -p Once -n 7 -t 3 -c 256 --temp 0.5 --top-k 40 --top-p 0.9"
            " --min-p 0.1 --repeat-penalty 1.1 -s 11"
        )
        assert main(command.split()) == 0
        model = engine.made
        assert (model.path, model.prompt, model.max_tokens) == ("dir", "Once", 7)
        assert (model.n_threads, model.context_length) == (3, 256)
        assert model.given == {
            "temperature": 0.5, "top_k": 40, "top_p": 0.9, "min_p": 0.1,
            "repetition_penalty": 1.1, "seed": 11,
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("spellings", "attribute"),
        [
            (["-n", "--max-tokens", "--n-predict"], "max_tokens"),
            (["-c", "--context-length", "--ctx-size"], "context_length"),
            (["-t", "--threads"], "n_threads"),
        ],
    )
    def test_those_of_one_option(self, engine, spellings, attribute):
        for spelling in spellings:
            for joined in ([spelling, "9"], [f"{spelling}{'=' * (len(spelling) > 2)}9"]):
                assert main(["generate", "Once", *joined]) == 0
                assert getattr(engine.made, attribute) == 9

    def test_the_last_one_counts(self, engine):
        assert main(["generate", "Once", "--temp", "0.1", "--temperature", "0.2"]) == 0
        assert engine.made.given["temperature"] == 0.2

    def test_short_options_in_one_argument(self, engine):
        assert main(["generate", "-vvn5", "Once"]) == 0
        assert (engine.made.max_tokens, engine.made.prompt) == (5, "Once")

    def test_options_stand_before_and_after_the_prompt(self, engine):
        assert main(["generate", "-n", "5", "Once", "--top-k", "3"]) == 0
        assert engine.made.prompt == "Once"
        assert (engine.made.max_tokens, engine.made.given["top_k"]) == (5, 3)

    def test_an_option_takes_several_values_up_to_the_next_one(self, monkeypatch):
        made = []
        monkeypatch.setattr(ryzanstein_llm.bench, "run", lambda *_, **given: made.append(given))
        for values in (["--threads", "1", "2"], ["-t", "1", "-t", "2"], ["-t", "1", "2"]):
            with pytest.raises(AttributeError):  # there is no report
                main(["bench", *values, "--tiers", "avx2", "scalar", "--quick"])
            assert made[-1]["n_threads"] == [1, 2]
            assert made[-1]["tiers"] == ["avx2", "scalar"]
            assert made[-1]["quick"]
        assert made[-1]["contexts"] is None


class TestPrompt:
    @pytest.mark.parametrize("text", ["- eggs\n- milk", "-5 degrees", "-- he said", "-\n"])
    def test_a_text_may_begin_with_a_hyphen(self, engine, text):
        for command in ([text], ["-p", text], [f"--prompt={text}"], ["--", text]):
            assert main(["generate", "-n", "5", *command]) == 0
            assert (engine.made.prompt, engine.made.max_tokens) == (text, 5)

    def test_a_value_may_begin_with_one_too(self, engine):
        assert main(["generate", "Once", "--stop", "- x", "--stop=--greedy", "--top-k", "-0"]) == 0
        assert engine.made.stop == ["- x", "--greedy"]

    def test_after_two_hyphens_all_is_text(self, engine):
        assert main(["generate", "-n", "5", "--", "--greedy"]) == 0
        assert engine.made.prompt == "--greedy"

    @pytest.mark.parametrize("arguments", [["-"], [], ["-f", "-"]])
    def test_standard_input(self, engine, stdin, arguments):
        stdin("Größe\n\n".encode())
        assert main(["generate", *arguments]) == 0
        assert engine.made.prompt == "Größe\n"

    @pytest.mark.parametrize(
        ("raw", "text"),
        [
            (b"a", "a"),
            (b"a\n", "a"),  # what echo and editors add
            (b"a\r\n", "a"),
            (b"a\n\n", "a\n"),
            (b"\xef\xbb\xbfa\r\nb\r\n", "a\nb"),  # as Windows writes
            (b"\xef\xbb\xbf\xef\xbb\xbfa", "\ufeffa"),
            (b"a\rb \t\n", "a\rb \t"),
            (b" \n a\x00\n", " \n a\x00"),
        ],
    )
    def test_a_file_and_standard_input_are_read_alike(self, engine, stdin, tmp_path, raw, text):
        path = tmp_path / "prompt.txt"
        path.write_bytes(raw)
        assert main(["generate", "-f", str(path)]) == 0
        assert engine.made.prompt == text
        stdin(raw)
        assert main(["generate"]) == 0
        assert engine.made.prompt == text

    def test_explicit_standard_input_may_be_empty(self, engine, stdin):
        stdin(b"")
        assert main(["generate", "-"]) == 0
        assert engine.made.prompt == ""

    def test_no_more_is_read_than_any_context_holds(
        self, engine, stdin, tmp_path, capsys, monkeypatch
    ):
        monkeypatch.setattr(prompt, "MAX_PROMPT_BYTES", 10)
        stdin(b"a" * 11)
        assert main(["generate"]) == 2
        assert "standard input has more than 10 bytes" in capsys.readouterr().err
        if Path("/dev/zero").exists():
            assert main(["generate", "-f", "/dev/zero"]) == 2
            assert "-f /dev/zero has more than 10 bytes" in capsys.readouterr().err
        stdin(b"a" * 10)
        assert main(["generate"]) == 0

    def test_what_is_not_utf8_is_refused(self, engine, stdin, tmp_path, capsys):
        stdin(b"\xff")
        assert main(["generate"]) == 2
        assert "standard input is not UTF-8" in capsys.readouterr().err
        (tmp_path / "prompt.txt").write_bytes(b"\xff\xfea\x00")
        path = tmp_path / "prompt.txt"
        for spelling in ("-f", "--file"):
            assert main(["generate", spelling, str(path)]) == 2
            assert f"error: {spelling} {path} is not UTF-8" in capsys.readouterr().err
        stdin(b"\xff")
        assert main(["generate", "-f", "-"]) == 2
        assert "error: -f standard input is not UTF-8" in capsys.readouterr().err

    @pytest.mark.parametrize("spelling", ["-c", "--ctx-size", "--context-length"])
    def test_a_context_that_is_too_small_is_named_as_it_was_typed(
        self, engine, capsys, monkeypatch, spelling
    ):
        def refused(*_, **__):
            raise ContextOverflowError(7, 2)

        monkeypatch.setattr(engine, "stream", refused)
        assert main(["generate", "Once", spelling, "2"]) == 2
        expected = (
            f"ryzanstein-llm: error: {spelling} 2 is too small for 7 tokens: the prompt is too long"
        )
        assert capsys.readouterr().err.startswith(expected)
        assert main(["generate", "Once"]) == 2
        assert "7 tokens do not fit a context of 2 tokens" in capsys.readouterr().err

    def test_a_file_that_is_not_there_is_named(self, engine, capsys):
        assert main(["generate", "--file", "/no/such/file"]) == 2
        expected = "ryzanstein-llm: error: --file /no/such/file: No such file or directory\n"
        assert capsys.readouterr().err == expected

    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            (["Once", "-p", "Twice"], "PROMPT ('Once') and -p exclude each other"),
            (["-", "--prompt", "Twice"], "PROMPT ('-') and --prompt exclude each other"),
            (["Once", "-f", "x"], "PROMPT ('Once') and -f exclude each other"),
            (["--file", "x", "-p", ""], "-p and --file exclude each other"),
            (["Once", "upon"], "needs quotes"),
        ],
    )
    def test_there_is_one(self, engine, capsys, arguments, named):
        assert main(["generate", *arguments]) == 2
        assert named in capsys.readouterr().err
        assert engine.made is None

    def test_a_terminal_is_not_waited_for(self, engine, stdin, capsys):
        stdin(b"Once", terminal=True)
        assert main(["generate"]) == 2
        assert "a prompt is missing" in capsys.readouterr().err
        assert main(["generate", "-"]) == 0  # unless that is asked for
        assert engine.made.prompt == "Once"

    def test_an_empty_pipe_is_no_prompt(self, engine, stdin, capsys):
        stdin(b"")
        assert main(["generate"]) == 2
        assert "a prompt is missing" in capsys.readouterr().err
        assert engine.made is None


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (
                "",
                f"a command is missing; the commands are {', '.join(COMMANDS)}",
            ),
            (
                "fly",
                f"no command 'fly'; the commands are {', '.join(COMMANDS)}",
            ),
            ("infos -v", "no command 'infos'; did you mean info?"),
            ("gen x", "no command 'gen'; did you mean generate?"),
            ("generate x --tempp 1", "no option --tempp; did you mean --temp?"),
            ("generate x --max_tokens=1", "no option --max_tokens; did you mean --max-tokens?"),
            ("generate x --max 1", "no option --max; did you mean --max-tokens?"),
            ("generate x --tmep 1", "no option --tmep; did you mean --temp?"),
            ("generate x --colour", "no option --colour"),
            ("convert x y --json", "no option --json"),  # not --revision, and not generate --json
            (
                "convert x y --preset tiny",
                "no option --preset; did you mean ryzanstein-llm bench --preset?",
            ),
            ("generate x -x", "no option -x"),
            ("info -p x", "no option -p; did you mean ryzanstein-llm generate -p?"),
            ("--model x", "no option --model; did you mean ryzanstein-llm generate --model?"),
            ("info x y", "unexpected argument 'y'"),
            ("generate x -n", "-n needs a value"),
            ("generate x --stop --greedy", "--stop needs a value, and --greedy is an option"),
            ("generate x --json=1", "--json takes no value"),
            ("generate x --greedy --temp 1", "--temp and --greedy exclude each other"),
            ("cache lst", "no action 'lst'; did you mean list?"),
            ("cache verify -y", "--yes is for clear, not for verify"),
            ("completion", "SHELL is missing"),
            ("completion tcsh", "SHELL must be bash, zsh or fish, not 'tcsh'"),
            ("convert x", "DST is missing"),
        ],
    )
    def test_what_is_wrong_is_said_after_the_usage(self, capsys, arguments, sentence):
        assert main(arguments.split()) == 2
        out, err = capsys.readouterr()
        assert out == ""
        usage, error = err.splitlines()
        assert usage.startswith("usage: ryzanstein-llm")
        assert error == f"ryzanstein-llm: error: {sentence}"

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            ("generate x --top-k y", "--top-k must be an integer, not 'y'"),
            ("generate x -ty", "-t must be an integer, not 'y'"),
        ],
    )
    def test_wrong_values_of_options_are_one_line(self, capsys, arguments, sentence):
        assert main(arguments.split()) == 2
        assert capsys.readouterr() == ("", f"ryzanstein-llm: error: {sentence}\n")

    def test_errors_of_the_library_name_the_option_as_it_was_typed(self, engine, capsys):
        for spelling in ("-n", "--n-predict"):
            engine.pieces = (InvalidParameterError("is odd, not 3", "max_tokens"),)
            assert main(["generate", "Once", f"{spelling}", "3"]) == 2
            assert capsys.readouterr().err == f"ryzanstein-llm: error: {spelling} is odd, not 3\n"

    @pytest.mark.parametrize("parameter", ["OMP_NUM_THREADS", "max_tokens", None])
    def test_what_was_not_typed_keeps_its_name(self, engine, capsys, parameter):
        error = InvalidParameterError("is odd", parameter)
        engine.pieces = (error,)
        assert main(["generate", "Once"]) == 2
        assert capsys.readouterr().err == f"ryzanstein-llm: error: {error}\n"

    def test_the_error_can_be_pickled(self):
        import pickle

        error = pickle.loads(pickle.dumps(InvalidParameterError("is odd", "seed")))
        assert (str(error), error.parameter, error.problem) == ("seed is odd", "seed", "is odd")
        assert str(errors.InvalidParameterError("bad")) == "bad"


class TestHelp:
    @pytest.mark.parametrize("columns", [80, 50, 40])
    @pytest.mark.parametrize("command", ["", *COMMANDS])
    def test_fits_the_terminal(self, monkeypatch, capsys, command, columns):
        monkeypatch.setenv("COLUMNS", str(columns))
        for option in ("-h", "--help"):
            assert main([*command.split(), option]) == 0
            shown = capsys.readouterr().out
            assert shown.startswith("usage: ryzanstein-llm")
            assert shown.isascii()
            to_copy = ("    eval ", "    ryzanstein-llm completion fish")  # which are not wrapped
            lines = [line for line in shown.splitlines() if not line.startswith(to_copy)]
            assert max(map(len, lines)) <= columns

    def test_explanations_stand_below_the_names_in_a_narrow_terminal(self, monkeypatch, capsys):
        for columns, written in (
            (80, "  --top-k K                     keep the K likeliest tokens\n"),
            (40, "  --top-k K\n      keep the K likeliest tokens\n"),
        ):
            monkeypatch.setenv("COLUMNS", str(columns))
            assert main(["generate", "--help"]) == 0
            assert written in capsys.readouterr().out

    def test_every_option_is_there_in_its_section(self, capsys):
        assert main(["generate", "--help"]) == 0
        shown = capsys.readouterr().out
        for param in program.commands["generate"].params:
            if param.param_type_name == "option":
                first = next(name for name in param.opts if name.startswith("--"))
                assert f"{first} " in shown
                assert param.help.split()[0] in shown
        titles = [line for line in shown.splitlines() if line.endswith(":") and line[0] != " "]
        assert titles == ["Prompt:", "Output:", "Sampling:", "Model:", "Options:"]

    def test_commands_are_listed_in_the_order_of_their_use(self, capsys):
        assert main(["--help"]) == 0
        lines = capsys.readouterr().out.splitlines()
        named = [line.split()[0] for line in lines[lines.index("Commands:") + 1 :] if line]
        assert tuple(named[: len(COMMANDS)]) == COMMANDS


def test_it_starts_without_the_engine():
    """Nor anything else that takes its time: help and refusals answer at once."""
    code = """
        import sys, ryzanstein_llm
        before = set(sys.modules)
        from ryzanstein_llm import cli
        assert cli.main(["generate", "--help"]) == 0
        assert cli.main(["--version"]) == 0
        assert cli.main(["generate", "x", "-n"]) == 2
        added = set(sys.modules) - before
        slow = {"numpy", "safetensors", "tokenizers", "json", "pathlib", "hashlib", "rich"}
        assert not slow & added, slow & added
        for name in added:
            if name.startswith("ryzanstein_llm."):
                assert name.split(".")[1] in ("cli", "errors"), name
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], check=True, capture_output=True, timeout=60
    )
