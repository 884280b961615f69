"""Repositories on the command line: wherever the path of a model is taken."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hub_files import NAME, demo_files, noise
from hub_server import Refusal

from ryzanstein_llm import bench
from ryzanstein_llm.cli import main, progress
from ryzanstein_llm.formats.locate import DEMO_DIRECTORY

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(autouse=True)
def elsewhere(hub, tmp_path, monkeypatch):
    """A folder without models, and a hub with one."""
    hub.add(NAME, demo_files())
    monkeypatch.chdir(tmp_path)


def fails(capsys, *arguments):
    """The one line that a command says."""
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    return err


def test_generate(hub, capsys):
    assert main(["generate", "-m", NAME, "Once upon a time", "-n", "20"]) == 0
    text = capsys.readouterr().out
    assert main(["generate", "Once upon a time", "-n", "20"]) == 0  # the built-in model
    assert text == capsys.readouterr().out


def test_info_says_where_the_files_are(hub, cache, capsys):
    assert main(["info", "--json", "--model", NAME]) == 0
    path = json.loads(capsys.readouterr().out)["model"]["path"]
    assert Path(path).parent == cache / "models--org--name" / "snapshots"


def test_info_of_a_repository_loads_nothing(hub, cache, capsys):
    assert main(["info", "--json", NAME]) == 0
    path = json.loads(capsys.readouterr().out)["path"]
    assert Path(path).parent == cache / "models--org--name" / "snapshots"


def test_convert(hub, tmp_path, capsys):
    greedy = ["Once upon", "-n", "5", "--temperature", "0"]
    converted = str(tmp_path / "model.gguf")
    assert main(["convert", NAME, converted]) == 0
    assert main(["generate", "-m", converted, *greedy]) == 0
    text = capsys.readouterr().out
    assert main(["generate", *greedy]) == 0
    assert text.endswith(capsys.readouterr().out)


def test_chat(hub, capsys, monkeypatch):
    import io

    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"Once upon a time\n")))
    assert main(["chat", "-m", NAME, "-n", "5"]) == 0
    assert capsys.readouterr().out.strip()
    assert hub.asked("cdn")


def test_bench(hub, cache, monkeypatch):
    given = []

    class Report:
        def text(self):
            return ""

    def run(path, **options):
        given.append(path)
        return Report()

    monkeypatch.setattr(bench, "run", run)
    assert main(["bench", "-m", NAME]) == 0
    assert Path(given[0], "model.safetensors").read_bytes() == demo_files()["model.safetensors"]


def test_a_revision(hub, cache, capsys):
    commit = hub.add(NAME, {**demo_files(), "generation_config.json": b"{}"}, "v1")
    assert main(["info", "-m", NAME, "--revision", "v1"]) == 0
    assert (cache / "models--org--name" / "snapshots" / commit).is_dir()


def test_a_path_goes_before_a_repository(hub, tmp_path):
    shutil.copytree(DEMO_DIRECTORY, tmp_path / NAME)
    assert main(["info", "-m", NAME]) == 0
    assert not hub.requests


@pytest.mark.parametrize("path", ["./org/name", "models", "a/b/c", "org/model.gguf"])
def test_what_cannot_be_a_repository_is_a_path(hub, capsys, path):
    assert "no such file or directory" in fails(capsys, "generate", "-m", path, "Once")
    assert not hub.requests


def test_no_path_and_no_repository(hub, capsys):
    said = fails(capsys, "generate", "-m", "org/missing", "Once")
    assert "org/missing: not on the hub" in said
    assert "nor is there a file or directory 'org/missing'" in said


def test_several_models_are_listed(hub, capsys):
    hub.add("org/many", {"a.gguf": noise(10), "b.gguf": noise(20)})
    said = fails(capsys, "generate", "-m", "org/many", "Once")
    assert "a.gguf, b.gguf" in said
    assert "org/many:a.gguf" in said


def test_a_file_of_another_kind(hub, capsys):
    assert "'org/name:pytorch_model.bin'" in fails(
        capsys, "generate", "-m", "org/name:pytorch_model.bin", "Once"
    )
    assert not hub.requests


def test_a_revision_of_a_path(hub, capsys):
    said = fails(capsys, "info", "--json", "--revision", "v1")
    assert "--revision is for a repository of the hub" in said


def test_a_wrong_option_is_found_before_anything_is_downloaded(hub, capsys):
    assert "--kv-dtype" in fails(capsys, "generate", "-m", NAME, "--kv-dtype", "int3", "Once")
    assert not hub.requests


def test_without_huggingface_hub(hub, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    said = fails(capsys, "generate", "-m", NAME, "Once")
    assert 'pip install "ryzanstein_llm[hub]"' in said
    assert "nor is there a file or directory 'org/name'" in said


def test_too_many_requests(hub, capsys):
    hub.refuse = lambda request: Refusal(429, {"Retry-After": "7"})
    assert "try again in 7 seconds" in fails(capsys, "generate", "-m", NAME, "Once")


def test_a_bar_on_a_terminal(hub, capsys, monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 0)
    monkeypatch.setattr(progress, "INTERVAL", 0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert main(["info", "-m", NAME]) == 0
    assert "% downloading model.safetensors" in capsys.readouterr().err


def test_huggingface_hub_is_not_imported_for_a_path():
    program = (
        "import sys; from ryzanstein_llm.cli import main\n"
        f"main(['generate', '-n', '1', '-m', {str(DEMO_DIRECTORY)!r}, 'Once'])\n"
        "assert not {'huggingface_hub', 'urllib.request'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", program], env=environment).returncode == 0
