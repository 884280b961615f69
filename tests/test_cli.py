"""The command line against a stand-in engine, and once against the real one."""

from __future__ import annotations

import importlib
import io
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from small_model import write_small_model
from stand_in_engine import CPU, stand_in

import ryzanstein_llm
import ryzanstein_llm.bench
import ryzanstein_llm.testing
from ryzanstein_llm import cli, errors
from ryzanstein_llm.cli import main, progress
from ryzanstein_llm.cli.console import wrapped
from ryzanstein_llm.text_table import format_bytes


@pytest.fixture
def engine(monkeypatch):
    return stand_in(monkeypatch)


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
        assert model.given == {"seed": 0}
        assert model.closed

    def test_the_demo_model_has_a_name(self, engine, capsys):
        assert main(["generate", "Once", "-m", ":demo:"]) == 0
        assert engine.made.path is None
        assert main(["generate", "Once", "-m", "./:demo:"]) == 0
        assert engine.made.path == "./:demo:"
        assert main(["generate", "Once", "-m", ":demo:", "--revision", "main"]) == 2
        capsys.readouterr()

    def test_demo_alone_is_a_path(self, engine, capsys, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        assert main(["generate", "Once", "-m", "demo"]) == 2
        assert "the built-in demo model is :demo:" in capsys.readouterr().err
        (tmp_path / "demo").mkdir()
        assert main(["generate", "Once", "-m", "demo"]) == 0
        assert engine.made.path == "demo"

    def test_a_model_without_a_tokenizer_is_refused(self, capsys, tmp_path):
        path = str(write_small_model(tmp_path / "model"))
        for command in ("generate Once", "embed Once", "chat"):
            assert main([*command.split(), "-m", path]) == 2
            problem = capsys.readouterr().err
            assert "there is no tokenizer.json, and this command reads and writes text" in problem
            assert "generate(" not in problem
        assert main(["info", "-m", path]) == 0

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
        assert model.given == {
            "temperature": 0.5, "top_k": 40, "top_p": 0.9, "min_p": 0.1, "typical_p": 0.8,
            "repetition_penalty": 1.1, "presence_penalty": -0.5, "frequency_penalty": 0.25,
            "seed": 11,
        }  # fmt: skip

    def test_greedy_is_temperature_zero(self, engine):
        main(["generate", "Once", "--greedy"])
        assert engine.made.given["temperature"] == 0.0

    def test_minus_one_token_is_as_many_as_fit_the_context(self, engine):
        assert main(["generate", "Once", "-n", "-1"]) == 0
        assert engine.made.max_tokens is None

    @pytest.mark.parametrize("seed", ["random", "-1"])
    def test_a_random_seed_is_shown_and_repeats_the_run(self, engine, capsys, seed):
        seeds = set()
        for _ in range(4):
            assert main(["generate", "Once", "--seed", seed]) == 0
            out, err = capsys.readouterr()
            assert out == "Once there was a cat.\n"
            (number,) = re.fullmatch(r"ryzanstein-llm: seed (\d+)\n", err).groups()
            assert engine.made.given["seed"] == int(number)
            seeds.add(number)
        assert len(seeds) == 4
        assert main(["generate", "Once", "--seed", number]) == 0
        assert engine.made.given["seed"] == int(number)
        assert capsys.readouterr().err == ""

    def test_guesses_are_an_option(self, engine, capsys):
        assert main(["generate", "Once"]) == 0
        assert engine.made.options["prompt_lookup_num_tokens"] is None
        assert main(["generate", "Once", "--prompt-lookup-num-tokens", "7"]) == 0
        assert engine.made.options["prompt_lookup_num_tokens"] == 7
        capsys.readouterr()
        assert main(["generate", "Once", "--prompt-lookup-num-tokens", "65"]) == 2
        assert "--prompt-lookup-num-tokens must be in 0..64" in capsys.readouterr().err

    def test_what_happens_at_the_end_of_the_context_is_an_option(self, engine, capsys):
        assert main(["generate", "Once"]) == 0
        assert engine.made.options["overflow"] is None
        assert main(["generate", "Once", "--overflow", "shift"]) == 0
        assert engine.made.options["overflow"] == "shift"
        capsys.readouterr()
        assert main(["generate", "Once", "--overflow", "cut"]) == 2
        assert "--overflow must be one of 'error', 'truncate', 'shift'" in capsys.readouterr().err

    def test_json_is_one_object_with_all_that_happened(self, engine, capsys):
        assert main(["generate", "Once", "--json", "-m", "dir", "-s", "7", "--temp", "0.5"]) == 0
        out, err = capsys.readouterr()
        assert (err, out.count("\n")) == ("", 1)
        found = json.loads(out)
        sampling = found.pop("sampling")
        assert found == {
            "model": "dir",
            "prompt": "Once",
            "text": " there was a cat.",
            "ids": [5, 6],
            "finish_reason": "length",
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
            "timings": {
                "prefill": 0.5,
                "decode": [0.25],
                "masks": 0.0,
                "tokens_per_second": 4.0,
            },
            "drafted_tokens": 0,
            "accepted_tokens": 0,
            "dropped_tokens": 0,
            "seed": 7,
        }
        assert (sampling["temperature"], sampling["top_k"], "seed" in sampling) == (0.5, 0, False)

    def test_json_says_which_seed_was_drawn(self, engine, capsys):
        assert main(["generate", "Once", "--json", "--seed", "random"]) == 0
        out, err = capsys.readouterr()
        assert err == f"ryzanstein-llm: seed {json.loads(out)['seed']}\n"

    def test_json_of_what_failed_or_was_interrupted_is_nothing(self, engine, capsys):
        engine.pieces = (" a", KeyboardInterrupt())
        assert main(["generate", "Once", "--json"]) == 130
        engine.pieces = (" a", errors.FormatError("broken"))
        assert main(["generate", "Once", "--json"]) == 2
        assert capsys.readouterr().out == ""

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
            "3.1 kB a token (int8); 4.2 MB when full",
        ):
            assert expected in text
        assert "forced" not in text
        assert engine.made.closed

    def test_json_is_one_object(self, engine, capsys):
        assert main(["info", "--json"]) == 0
        out, err = capsys.readouterr()
        assert (err, out.count("\n")) == ("", 1)
        found = json.loads(out)
        assert found["version"] == ryzanstein_llm.__version__
        assert found["cpu"] == CPU
        assert found["model"]["threads"]["reason"] == "2 physical cores"
        assert (found["model"]["path"], found["model"]["eos_ids"]) == ("/models/cat", [1, 7])
        assert set(found["process"]) == {"resident_bytes", "peak_bytes"}

    def test_json_is_nothing_if_the_model_does_not_open(self, engine, monkeypatch, capsys):
        def broken(*_, **__):
            raise errors.CheckpointNotFoundError("nowhere: no such file")

        monkeypatch.setattr(ryzanstein_llm, "BitNetModel", broken)
        assert main(["info", "--json"]) == 2
        assert capsys.readouterr().out == ""

    @pytest.mark.parametrize("columns", [80, 50])
    def test_lines_fit_the_terminal(self, engine, monkeypatch, capsys, columns):
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setitem(CPU, "features", [f"avx512feature{n}" for n in range(12)])
        assert main(["info"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= columns
        assert "avx512feature11" in " ".join(lines)

    def test_says_when_the_tier_is_forced(self, engine, monkeypatch, capsys):
        monkeypatch.setenv("RYZANSTEIN_ISA", "avx2")
        main(["info"])
        assert "avx2 (forced by RYZANSTEIN_ISA=avx2)" in capsys.readouterr().out

    @pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
    def test_prints_the_memory_of_this_process(self, engine, capsys):
        main(["info"])
        assert re.search(
            r"process +[0-9.]+ [MG]B resident, [0-9.]+ [MG]B peak\n", capsys.readouterr().out
        )

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
            " --batches 1 4 --sampled top-p none -r 3 --quick --no-scalar-check"
        )
        assert main(command.split()) == 0
        path, options = calls[0]
        del options["progress"]
        assert path is None
        assert options == {
            "preset": "tiny", "sparse_gates": 0.2, "keep": "dir", "n_threads": [1, 2],
            "tiers": ["avx2", "scalar"], "kv_dtype": "int8", "weight_format": "table",
            "contexts": [16, 64], "prefill": [8], "batches": [1, 4], "sampled": ["top-p", "none"],
            "repetitions": 3, "quick": True, "scalar_check": False, "packed_cache": True,
        }  # fmt: skip

    def test_several_values_as_llama_bench_writes_them(self, calls):
        command = (
            "bench -t 1,2 --n-depth 16,64 --n-prompt 8,32 512 --batches 1,2,4 --tiers avx2,scalar"
            " --sampled=top-p,logprobs"
        )
        assert main(command.split()) == 0
        _, options = calls[0]
        assert options["n_threads"] == [1, 2]
        assert options["contexts"] == [16, 64]
        assert options["prefill"] == [8, 32, 512]
        assert options["batches"] == [1, 2, 4]
        assert options["tiers"] == ["avx2", "scalar"]
        assert options["sampled"] == ["top-p", "logprobs"]

    def test_help_names_some_presets_and_a_wrong_name_lists_all(self, capsys):
        assert main(["bench", "--help"]) == 0
        shown = " ".join(capsys.readouterr().out.split())
        named = shown.partition("shapes of this model, such as ")[2].partition(";")[0]
        presets = ryzanstein_llm.testing.PRESETS
        assert set(named.replace(" or ", ", ").split(", ")) <= set(presets)
        assert main(["bench", "--preset", "none"]) == 2
        error = capsys.readouterr().err
        assert all(name in error for name in presets)

    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            (["--model", "x", "--preset", "tiny"], "--model and --preset exclude each other"),
            (["--keep", "x"], "--keep needs --preset"),
            (["-m", "x", "--sparse"], "--sparse needs --preset"),
        ],
    )
    def test_random_weights_are_those_of_a_preset(self, calls, capsys, arguments, named):
        assert main(["bench", *arguments]) == 2
        assert named in capsys.readouterr().err
        assert not calls

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
        monkeypatch.setenv("TERM", "xterm")
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

    def test_does_not_show_on_a_terminal_that_cannot_erase(self, monkeypatch):
        monkeypatch.setattr(progress, "PATIENCE", 0)
        monkeypatch.setenv("TERM", "dumb")
        terminal = self.Terminal()
        bar = progress.ProgressBar(terminal)
        bar.update(3, 4, "repacking")
        bar.close()
        assert terminal.getvalue() == ""

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


FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")

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
sampling.SamplingParams.from_checkpoint = Sampling.from_checkpoint
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
    def test_a_clone_that_was_not_compiled_says_so_in_one_line(self, tmp_path):
        package = Path(ryzanstein_llm.__path__[0])
        shutil.copytree(
            package, tmp_path / package.name, ignore=shutil.ignore_patterns("*.so", "*.pyd", "demo")
        )
        command = [sys.executable, "-W", "error", "-m", "ryzanstein_llm", "generate", "Once"]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert ended.returncode == 2
        assert ended.stderr.startswith("ryzanstein-llm: error: ")
        assert "no kernels compiled" in ended.stderr
        assert ended.stderr.count("\n") == 1
        assert str(tmp_path) in ended.stderr

    def test_an_import_that_fails_for_another_reason_is_a_fault_of_ours(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "ryzanstein_llm.cli.prompt", None)
        monkeypatch.setattr(
            cli, "_run", lambda arguments: importlib.import_module("ryzanstein_llm.cli.prompt")
        )
        with pytest.raises(ModuleNotFoundError):
            cli.main([])

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

    @pytest.mark.skipif(os.name == "nt", reason="POSIX shells")
    @pytest.mark.parametrize(
        ("closed", "arguments", "code"),
        [
            (">&-", "generate Hi -n 3", 0),
            ("2>&-", "generate Hi -n x", 2),
            ("<&-", "generate", 2),
            ("<&-", "generate -", 2),
            ("<&-", "cache clear", 2),
            ("<&- >&- 2>&-", "generate Hi -n 3", 0),
            ("<&- >&- 2>&-", "--help", 0),
            pytest.param(">/dev/full", "info", 2, marks=FULL),
            pytest.param(">/dev/full", "--help", 2, marks=FULL),
        ],
    )
    def test_streams_that_are_closed_or_full(self, closed, arguments, code):
        shell = f'"$0" -W error -m ryzanstein_llm {arguments} {closed}'
        result = subprocess.run(
            ["sh", "-c", shell, sys.executable], capture_output=True, text=True, timeout=60
        )
        assert result.returncode == code
        assert "Traceback" not in result.stderr
        assert result.stderr.count("ryzanstein-llm: ") <= 1
        assert "Exception ignored" not in result.stderr


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
            (["generate", "x", "--threads", "0"], "--threads must be in 1..1024, not 0"),
            (["generate", "x", "-t", "0"], "-t must"),
            (["generate", "x", "--temperature", "-1"], "--temperature must be in [0, 100], not -1"),
            (["generate", "x", "--temp", "200"], "--temp must be in [0, 100], not 200"),
            (["generate", "x", "--temp", "x"], "--temp must be a number in [0, 100], not 'x'"),
            (["generate", "x", "--max-tokens", "-2"], "--max-tokens must be in -1.."),
            (["generate", "x", "--n-predict=2.5"], "--n-predict must be an integer, not '2.5'"),
            (["generate", "x", "-n-2"], "-n must"),
            (["generate", "x", "--stop", ""], "--stop holds an empty string"),
            (["generate", "x", "--repetition-penalty", "0"], "--repetition-penalty must"),
            (["generate", "x", "--repeat-penalty", "0"], "--repeat-penalty must"),
            (["generate", "x", "--context-length", "513"], "--context-length must be in 1..512"),
            (["generate", "x", "-vc", "513"], "-c must be in 1..512, not 513"),
            (["generate", "x", "--kv-dtype", "int4"], "--kv-dtype must be one of 'float32'"),
            (["generate", "x", "-s", "y"], "-s must be an integer or random, not 'y'"),
            (["bench", "--contexts", "16", "0"], "--contexts must be in 1..1048576, not 0"),
            (["bench", "-t", "1", "0"], "-t must be in 1..1024, not 0"),
            (["bench", "--tiers", "scalar", "abacus"], "'scalar', 'all', not 'abacus'"),
            (["bench", "--tiers", "all", "scalar"], "--tiers must be 'all' alone, or others"),
            (["bench", "--sampled", "all"], "'none', not 'all'"),
            (["bench", "--sampled", "none", "top-p"], "--sampled must be 'none' alone, or others"),
            (
                ["generate", "a", "--seed", "-5"],
                "--seed must be in 0..18446744073709551615, or random",
            ),
            (["bench", "--batches", "1,x"], "must be an integer, not 'x'"),
            (["bench", "--n-depth", "0"], "--n-depth must be in 1..1048576, not 0"),
            (["bench", "--sampled", "beam"], "--sampled must be one of"),
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

    def test_what_can_be_refused_is_refused_before_the_model_is_opened(self):
        for wrong in ["--temp", "200"], ["-n", "-2"], ["--stop", ""], ["-t", "0"]:
            result = command("generate", "x", "-m", "/no/such/model", *wrong)
            assert f"error: {wrong[0]} " in result.stderr

    def test_json_repeats_and_tells_all(self):
        def told(*options):
            result = command("generate", "The king", "-n", "5", "--json", *options)
            assert (result.returncode, result.stderr.count("\n")) == (0, len(options) // 2)
            return json.loads(result.stdout)

        first = told("--seed", "random")
        again = command("generate", "The king", "-n", "5", "--seed", str(first["seed"]))
        assert again.stdout.startswith(f"{first['prompt']}{first['text']}")
        assert len(first["ids"]) == first["usage"]["completion_tokens"]
        assert first["timings"]["tokens_per_second"] > 0
        assert first["sampling"]["min_p"] == 0.1  # the checkpoint's
        profiled = command("generate", "The king", "-n", "5", "--json", "--profile")
        assert profiled.stderr == ""
        assert [p["name"] for p in json.loads(profiled.stdout)["profile"]["phases"]] == [
            "prompt",
            "decode",
        ]

    def test_a_forced_tier_that_does_not_exist_is_named(self):
        result = command("info", RYZANSTEIN_ISA="abacus")
        assert result.returncode == 2
        assert "abacus" in result.stderr
        assert "Traceback" not in result.stderr


@pytest.mark.skipif(os.name != "posix", reason="needs a terminal of POSIX")
@pytest.mark.parametrize("columns", [30, 50, 120])
def test_messages_fit_the_terminal_also_if_the_answer_goes_elsewhere(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python asks the terminal of standard output, which is none here."""
    import fcntl
    import pty
    import struct
    import termios

    monkeypatch.delenv("COLUMNS", raising=False)
    near, far = pty.openpty()
    fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with open(near, "rb"), open(far, "w") as terminal:
        lines = wrapped("word " * 99, terminal).splitlines()
        bar = progress.ProgressBar(terminal)
        bar._next = 0
        bar.update(1, 2, "word " * 99)
        drawn = os.read(near, 10_000).decode("ascii")
    assert columns - 5 < max(map(len, lines)) <= columns
    assert len(drawn.strip("\r").removesuffix("\x1b[K")) == columns - 1
