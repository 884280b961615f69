"""The command line against a stand-in engine, and once against the real one."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import ryzanstein_llm
import ryzanstein_llm.bench
import ryzanstein_llm.testing
from ryzanstein_llm import errors, sampling
from ryzanstein_llm.cli import main, progress
from ryzanstein_llm.cli.info import format_bytes
from ryzanstein_llm.system.threads import ThreadChoice


class FakeModel:
    """Records how it was made and used; streams `pieces`."""

    pieces = (" there", " was", "", " a cat", ".")
    made = None

    def __init__(
        self, path=None, *, n_threads=None, context_length=None, kv_dtype=None, weight_format=None,
        packed_cache=None, progress=None,
    ):  # fmt: skip
        self.context_length, self.kv_dtype = context_length, kv_dtype
        self.path, self.n_threads, self.closed = path, n_threads, False
        self.weight_format, self.packed_cache = weight_format, packed_cache
        FakeModel.made = self
        progress(1, 2, "repacking")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.closed = True

    def stream(self, prompt, *, max_tokens, sampling, stop):
        self.prompt, self.max_tokens, self.sampling, self.stop = prompt, max_tokens, sampling, stop
        for piece in self.pieces:
            if isinstance(piece, BaseException):
                raise piece
            yield piece

    def info(self):
        return {
            "family": "bitnet",
            "path": "/models/cat",
            "n_layers": 6,
            "hidden_size": 256,
            "vocab_size": 4096,
            "context_length": 512,
            "parameters": 5780000,
            "weight_bytes": 3300000,
            "weight_format": "1.6bit",
            "packed_file": None,
            "kv_bytes_per_token": 3096,
            "kv_dtype": "int8",
            "tier": "avx2",
            "threads": ThreadChoice(2, "2 physical cores", 4, 2.5, 2),
            "eos_ids": (1, 7),
            "has_tokenizer": True,
        }


class FakeSampling:
    """Stands for SamplingParams.from_checkpoint: what it was given is what it is."""

    @staticmethod
    def from_checkpoint(model, **overrides):
        assert isinstance(model, FakeModel)
        return overrides


CPU = {
    "features": ["avx2", "fma"],
    "tier": "avx2",
    "available_tiers": ["scalar", "avx2"],
    "compiled_tiers": ["scalar", "avx2", "avxvnni"],
}


@pytest.fixture
def engine(monkeypatch):
    monkeypatch.setattr(ryzanstein_llm, "BitNetModel", FakeModel)
    monkeypatch.setattr(ryzanstein_llm, "cpu_info", lambda: CPU)
    monkeypatch.setattr(sampling, "SamplingParams", FakeSampling)
    monkeypatch.delenv("RYZANSTEIN_ISA", raising=False)
    monkeypatch.setattr(FakeModel, "pieces", FakeModel.pieces)
    return FakeModel


class TestGenerate:
    def test_prints_the_prompt_and_its_continuation_as_one_text(self, engine, capsys):
        assert main(["generate", "Once"]) == 0
        assert capsys.readouterr() == ("Once there was a cat.\n", "")

    def test_defaults(self, engine):
        main(["generate", "Once"])
        model = engine.made
        assert (model.path, model.n_threads, model.packed_cache) == (None, None, True)
        assert (model.weight_format, model.context_length, model.kv_dtype) == (None, None, None)
        assert (model.prompt, model.max_tokens, model.stop) == ("Once", 200, [])
        assert model.sampling == {"seed": 0}
        assert model.closed

    def test_options_reach_the_engine(self, engine):
        command = (
            "generate Once --model dir --threads 3 --max-tokens 7 --temperature 0.5 --top-k 40"
            " --top-p 0.9 --min-p 0.1 --seed 11 --stop END --stop ENDE --no-cache"
            " --weight-format 1.6bit --context-length 256 --kv-dtype int8 --typical-p 0.8"
            " --repetition-penalty 1.1 --presence-penalty -0.5 --frequency-penalty 0.25"
        )
        assert main(command.split()) == 0
        model = engine.made
        assert (model.path, model.n_threads, model.max_tokens) == ("dir", 3, 7)
        assert model.stop == ["END", "ENDE"]
        assert model.packed_cache is False
        assert model.weight_format == "1.6bit"
        assert (model.context_length, model.kv_dtype) == (256, "int8")
        assert model.sampling == {
            "temperature": 0.5, "top_k": 40, "top_p": 0.9, "min_p": 0.1, "typical_p": 0.8,
            "repetition_penalty": 1.1, "presence_penalty": -0.5, "frequency_penalty": 0.25,
            "seed": 11,
        }  # fmt: skip

    def test_greedy_is_temperature_zero(self, engine):
        main(["generate", "Once", "--greedy"])
        assert engine.made.sampling["temperature"] == 0.0

    def test_greedy_and_a_temperature_exclude_each_other(self, capsys):
        with pytest.raises(SystemExit, match="2"):
            main(["generate", "x", "--greedy", "--temperature", "1"])
        assert "not allowed with" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("prompt", "pieces", "text"),
        [
            ("a", ("b\n",), "ab\n"),
            ("a\n", (), "a\n"),
            ("a", (), "a\n"),
            ("", ("b",), "b\n"),
            ("a", ("b\n", ""), "ab\n"),
        ],
    )
    def test_the_text_ends_with_one_newline(self, engine, capsys, prompt, pieces, text):
        engine.pieces = pieces
        assert main(["generate", prompt]) == 0
        assert capsys.readouterr().out == text

    def test_every_piece_is_flushed_as_it_comes(self, engine, monkeypatch):
        flushed = []

        class Recorder(io.StringIO):
            def flush(self):
                flushed.append(self.getvalue())

        monkeypatch.setattr(sys, "stdout", Recorder())
        main(["generate", "Once"])
        expected = ["Once there", "Once there was", "Once there was a cat", "Once there was a cat."]
        assert flushed[:4] == expected

    def test_a_dash_reads_standard_input_without_the_newline_of_echo(self, engine, monkeypatch):
        stdin = io.TextIOWrapper(io.BytesIO("Größe\n\n".encode()), encoding="ascii")
        monkeypatch.setattr(sys, "stdin", stdin)
        assert main(["generate", "-"]) == 0
        assert engine.made.prompt == "Größe\n"

    def test_standard_input_that_is_not_utf8_is_refused(self, engine, monkeypatch, capsys):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff")))
        assert main(["generate", "-"]) == 2
        assert "not UTF-8" in capsys.readouterr().err

    def test_characters_the_terminal_lacks_become_question_marks(self, engine, monkeypatch):
        engine.pieces = (" — ü",)
        terminal = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(terminal, encoding="ascii"))
        assert main(["generate", "Café"]) == 0
        assert terminal.getvalue() == b"Caf? ? ?\n"


class TestInfo:
    def test_prints_cpu_threads_model_and_memory(self, engine, capsys):
        assert main(["info"]) == 0
        text = capsys.readouterr().out
        for expected in (
            "avx2, fma",
            "scalar, avx2, avxvnni",
            "2 physical cores",
            "2.50 CPUs",
            "/models/cat",
            "5,780,000",
            "512 tokens",
            "1, 7",
            "3.3 MB",
            "3.1 kB a token (int8), 1.6 MB when full",
        ):
            assert expected in text
        assert "forced" not in text
        assert engine.made.closed

    def test_says_when_the_tier_is_forced(self, engine, monkeypatch, capsys):
        monkeypatch.setenv("RYZANSTEIN_ISA", "avx2")
        main(["info"])
        assert "avx2 (forced by RYZANSTEIN_ISA=avx2)" in capsys.readouterr().out

    @pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
    def test_prints_the_memory_of_this_process(self, engine, capsys):
        main(["info"])
        assert "MB resident" in capsys.readouterr().out

    def test_the_cpu_is_printed_even_if_the_model_does_not_open(self, engine, monkeypatch, capsys):
        def broken(*_, **__):
            raise errors.CheckpointNotFoundError("nowhere: no such file")

        monkeypatch.setattr(ryzanstein_llm, "BitNetModel", broken)
        assert main(["info"]) == 2
        out, err = capsys.readouterr()
        assert "avx2, fma" in out
        assert err == "ryzanstein-llm: error: nowhere: no such file\n"

    @pytest.mark.parametrize(
        ("count", "text"),
        [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (99_940, "99.9 kB"),
            (123_456, "123 kB"),
            (999_600, "1.0 MB"),
            (3_300_000, "3.3 MB"),
            (2_000_000_000, "2.0 GB"),
            (5 * 10**15, "5000 TB"),
        ],
    )
    def test_bytes_are_rounded_for_people(self, count, text):
        assert format_bytes(count) == text


class TestBench:
    @pytest.fixture
    def calls(self, monkeypatch):
        made = []

        class Report:
            def to_dict(self):
                return {"rows": []}

            def text(self):
                return "a table\n"

        def run(path, **options):
            made.append((path, options))
            return Report()

        monkeypatch.setattr(ryzanstein_llm.bench, "run", run)
        return made

    def test_prints_tables(self, calls, capsys):
        assert main(["bench"]) == 0
        assert capsys.readouterr() == ("a table\n", "")
        path, options = calls[0]
        assert path is options["preset"] is options["n_threads"] is options["sparse_gates"] is None
        assert options["scalar_check"]
        assert not options["quick"]

    def test_json_is_one_object_and_nothing_else(self, calls, capsys):
        assert main(["bench", "--json"]) == 0
        assert capsys.readouterr() == ('{"rows": []}\n', "")

    def test_options_reach_the_benchmark(self, calls):
        command = (
            "bench --preset tiny --sparse --keep dir --threads 1 2 --tiers avx2 scalar"
            " --kv-dtype int8 --weight-format table --contexts 16 64 --prefill 8"
            " --batches 1 4 --repetitions 3 --quick --no-scalar-check"
        )
        assert main(command.split()) == 0
        path, options = calls[0]
        del options["progress"]
        assert path is None
        assert options == {
            "preset": "tiny", "sparse_gates": 0.2, "keep": "dir", "n_threads": [1, 2],
            "tiers": ["avx2", "scalar"], "kv_dtype": "int8", "weight_format": "table",
            "contexts": [16, 64], "prefill": [8], "batches": [1, 4], "repetitions": 3,
            "quick": True, "scalar_check": False, "packed_cache": True,
        }  # fmt: skip

    def test_help_names_the_presets(self, capsys):
        with pytest.raises(SystemExit, match="0"):
            main(["bench", "--help"])
        shown = " ".join(capsys.readouterr().out.split())
        *others, last = ryzanstein_llm.testing.PRESETS
        assert f"{', '.join(others)} or {last}" in shown

    def test_a_model_and_a_preset_exclude_each_other(self, capsys):
        with pytest.raises(SystemExit, match="2"):
            main(["bench", "--model", "x", "--preset", "tiny"])
        assert "not allowed with" in capsys.readouterr().err

    def test_outputs_that_differ_are_exit_code_1_and_print_no_figures(self, monkeypatch, capsys):
        def broken(*_, **__):
            raise errors.BenchError("output differs: token 3")

        monkeypatch.setattr(ryzanstein_llm.bench, "run", broken)
        assert main(["bench"]) == 1
        assert capsys.readouterr() == ("", "ryzanstein-llm: error: output differs: token 3\n")


class TestFailure:
    @pytest.mark.parametrize(
        "error",
        [
            errors.FormatError("file.safetensors: header\nlength 99"),
            errors.InvalidParameterError("bad"),
            errors.CheckpointNotFoundError("gone"),
            errors.ContextOverflowError(600, 512),
            PermissionError(13, "Permission denied", "model.safetensors"),
        ],
    )
    def test_bad_input_is_one_line_and_exit_code_2(self, engine, capsys, error):
        engine.pieces = (error,)
        assert main(["generate", "Once"]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("ryzanstein-llm: error: ")
        assert err.count("\n") == 1
        assert "Traceback" not in err

    def test_text_that_came_before_an_error_ends_its_line(self, engine, capsys):
        engine.pieces = (" a", errors.FormatError("broken"))
        assert main(["generate", "Once"]) == 2
        assert capsys.readouterr().out == "Once a\n"

    def test_out_of_memory_is_exit_code_1(self, engine, capsys):
        engine.pieces = (MemoryError("64 GB"),)
        assert main(["generate", "Once"]) == 1
        assert "not enough memory: 64 GB" in capsys.readouterr().err

    def test_a_bug_keeps_its_traceback(self, engine):
        engine.pieces = (ZeroDivisionError(),)
        with pytest.raises(ZeroDivisionError):
            main(["generate", "Once"])

    def test_ctrl_c_is_exit_code_130(self, engine, capsys):
        engine.pieces = (" a", KeyboardInterrupt())
        assert main(["generate", "Once"]) == 130
        assert capsys.readouterr() == ("Once a\n", "")
        assert engine.made.closed

    @pytest.mark.parametrize(
        "arguments",
        [[], ["fly"], ["generate"], ["generate", "x", "--seed", "y"], ["info", "--speed", "9"]],
    )
    def test_mistyped_arguments_are_exit_code_2(self, capsys, arguments):
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
        assert "usage: ryzanstein-llm" in capsys.readouterr().err

    def test_warnings_of_the_library_are_shown_and_more_if_asked_for(self, engine, capsys):
        log = logging.getLogger("ryzanstein_llm.engine")

        def pieces():
            log.warning("slow disk")
            log.info("packed")
            log.debug("tier")
            yield "."

        for options, shown in ([], 1), (["-v"], 2), (["-vv"], 3):
            engine.pieces = pieces()
            main(["generate", "Once", *options])
            assert capsys.readouterr().err.count("ryzanstein-llm: ") == shown


class TestProgressBar:
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    def test_shows_on_a_terminal_and_is_erased(self, monkeypatch):
        monkeypatch.setattr(progress, "PATIENCE", 0)
        terminal = self.Terminal()
        bar = progress.ProgressBar(terminal)
        bar.update(3, 4, "repacking")
        bar.close()
        assert " 75% repacking" in terminal.getvalue()
        assert terminal.getvalue().endswith("\r\x1b[K")

    def test_does_not_show_in_a_file(self, monkeypatch):
        monkeypatch.setattr(progress, "PATIENCE", 0)
        file = io.StringIO()
        bar = progress.ProgressBar(file)
        bar.update(3, 4, "repacking")
        bar.close()
        assert file.getvalue() == ""

    def test_does_not_show_what_is_soon_done(self):
        terminal = self.Terminal()
        bar = progress.ProgressBar(terminal)
        bar.update(1, 1, "repacking")
        bar.close()
        assert terminal.getvalue() == ""

    @pytest.mark.parametrize(
        ("done", "total", "line"),
        [
            (0, 8, "[..........]   0% x"),
            (4, 8, "[#####.....]  50% x"),
            (9, 8, "[##########] 100% x"),
            (0, 0, "[..........]   0% x"),
        ],
    )
    def test_the_line(self, done, total, line):
        assert progress.render(done, total, "x", 20) == line

    def test_the_line_fits_the_terminal(self):
        assert len(progress.render(1, 2, "a long name " * 9, 40)) == 40
        assert progress.render(1, 2, "x", 0) == ""


SCRIPT = """
import signal, sys, time
import ryzanstein_llm
from ryzanstein_llm import sampling
from ryzanstein_llm.cli import main

class Model:
    def __init__(self, path=None, **_): pass
    def __enter__(self): return self
    def __exit__(self, *_): pass
    def stream(self, prompt, **_):
        while True:
            yield " word" * 200 + chr(10)
            time.sleep(0.01)

class Sampling:
    @staticmethod
    def from_checkpoint(model, **_): return None

ryzanstein_llm.BitNetModel = Model
sampling.SamplingParams = Sampling
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell ignores it
sys.exit(main(["generate", "Once"]))
"""


@pytest.fixture
def endless():
    """A process that generates for ever, its output a pipe."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(SCRIPT)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(ryzanstein_llm.__path__[0]).parent,
    )
    yield process
    process.kill()
    process.communicate()


class TestProcess:
    def test_a_reader_that_goes_away_ends_it_quietly(self, endless):
        assert endless.stdout.readline().startswith(b"Once word")
        endless.stdout.close()
        assert endless.stderr.read() == b""
        assert endless.wait(20) == 141

    @pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
    def test_ctrl_c_ends_it_without_a_traceback(self, endless):
        endless.stdout.readline()
        endless.send_signal(signal.SIGINT)
        assert endless.communicate(timeout=20)[1] == b""
        assert endless.returncode == 130

    def test_the_parser_adds_nothing_of_the_engine_to_the_package(self):
        code = """
            import sys, ryzanstein_llm
            before = set(sys.modules)
            from ryzanstein_llm import cli
            cli._parser()
            added = set(sys.modules) - before
            assert not {"numpy", "safetensors", "tokenizers"} & added
            for name in added:
                if name.startswith("ryzanstein_llm."):
                    assert name.split(".")[1] in ("cli", "errors"), name
        """
        subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


def command(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "ryzanstein_llm", *arguments],
        check=False,
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONUTF8": "1", **environment},
        timeout=120,
    )


class TestTheRealEngine:
    def test_the_demo_model_tells_a_tale_and_the_same_one_again(self):
        first = command("generate", "Once upon a time", "--max-tokens", "20")
        assert (first.returncode, first.stderr) == (0, "")
        assert first.stdout.startswith("Once upon a time")
        assert len(first.stdout) > 30
        assert command("generate", "Once upon a time", "--max-tokens", "20").stdout == first.stdout

    def test_the_seed_counts_and_greedy_does_not_care(self):
        def tale(*options):
            return command("generate", "The king", "--max-tokens", "20", *options).stdout

        assert tale("--seed", "1") != tale("--seed", "2")
        assert tale("--greedy", "--seed", "1") == tale("--temperature", "0", "--seed", "2")

    def test_info_describes_the_demo_model(self):
        result = command("info", "--threads", "1")
        assert (result.returncode, result.stderr) == (0, "")
        assert "n_threads=1" in result.stdout
        assert "bitnet" in result.stdout

    def test_bench_measures_the_demo_model(self):
        result = command("bench", "--quick", "--json", "--threads", "1")
        assert (result.returncode, result.stderr) == (0, "")
        report = json.loads(result.stdout)
        assert report["model"]["name"] == "demo"
        assert len(report["check"]["tokens"]) == 8

    def test_version(self):
        result = command("--version")
        assert result.stdout == f"ryzanstein-llm {ryzanstein_llm.__version__}\n"

    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            (["generate", "x", "--model", "/no/such/model"], "/no/such/model"),
            (["generate", "x", "--threads", "0"], "n_threads"),
            (["generate", "x", "--temperature", "-1"], "temperature"),
            (["generate", "x", "--max-tokens", "-1"], "max_tokens"),
            (["generate", "x", "--stop", ""], "stop"),
            (["generate", "x", "--repetition-penalty", "0"], "repetition_penalty"),
            (["generate", "x", "--context-length", "513"], "context_length"),
            (["generate", "x", "--kv-dtype", "int4"], "kv_dtype"),
            (["generate", "word " * 5000], "512"),
        ],
    )
    def test_bad_input_is_named(self, arguments, named):
        result = command(*arguments)
        assert result.returncode == 2
        assert result.stdout == ""
        assert result.stderr.startswith("ryzanstein-llm: error: ")
        assert named in result.stderr
        assert result.stderr.count("\n") == 1

    def test_a_forced_tier_that_does_not_exist_is_named(self):
        result = command("info", RYZANSTEIN_ISA="abacus")
        assert result.returncode == 2
        assert "abacus" in result.stderr
        assert "Traceback" not in result.stderr
