"""Completion, asked for as shells ask: the script is loaded by the real shell, and what it offers
is read there. Skips for shells that are not installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ryzanstein_llm.cli import main, program

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX shells")

# Words of a line, the last one unfinished, and what is offered for it.
CASES = [
    ([""], list(program.commands)),
    (["gen"], ["generate"]),
    (["generate", "--pre"], ["--presence-penalty"]),
    (["generate", "--prof"], ["--profile"]),
    (["generate", "--kv-dtype", ""], ["float32", "bfloat16", "int8"]),
    (["generate", "-n", "5", "--weight-format", "1"], ["1.6bit"]),
    (["bench", "--threads", "1", "2", "--ti"], ["--tiers"]),
    (["cache", "v"], ["verify"]),
    (["completion", ""], ["bash", "zsh", "fish"]),
]


@pytest.fixture
def ask(tmp_path: Path):
    """Run a shell that finds the program under its name."""
    program = tmp_path / "bin" / "ryzanstein-llm"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -W error -m ryzanstein_llm "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}
    environment |= {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}

    def run(shell: str, *options: str, script: str, words: list[str]) -> list[str]:
        if shutil.which(shell) is None:
            pytest.skip(f"{shell} is not installed")
        result = subprocess.run(
            [shell, *options, script, "ryzanstein-llm", *words],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (result.returncode, result.stderr) == (0, "")
        return result.stdout.split()

    return run


BASH = """
eval "$(ryzanstein-llm completion bash)"
complete -p ryzanstein-llm | grep -q -- '-F _ryzanstein_llm_completion' || exit 1
compopt() { echo "$2"; }  # works only while bash completes
COMP_WORDS=("$0" "$@")
COMP_CWORD=$#
_ryzanstein_llm_completion ryzanstein-llm
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(("words", "offered"), CASES)
def test_bash(ask, words: list[str], offered: list[str]) -> None:
    assert ask("bash", "--norc", "-c", script=BASH, words=words) == offered


@pytest.mark.parametrize("words", [["generate", "-m", ""], ["generate", "--file", "x"]])
def test_bash_completes_paths_by_itself(ask, words: list[str]) -> None:
    assert ask("bash", "--norc", "-c", script=BASH, words=words) == ["default"]


ZSH = """
compdef() { [[ $2 == ryzanstein-llm ]] || exit 1 }
_describe() { local name=$3; print -l -- ${${(P)name}%%:*} }
compadd() { local name=${@[-1]}; print -l -- ${(P)name} }
eval "$(ryzanstein-llm completion zsh)"
words=("$0" "$@")
CURRENT=${#words}
_ryzanstein_llm_completion
"""


@pytest.mark.parametrize(("words", "offered"), CASES)
def test_zsh(ask, words: list[str], offered: list[str]) -> None:
    assert ask("zsh", "-f", "-c", script=ZSH, words=words) == offered


FISH = """
ryzanstein-llm completion fish | source
complete --do-complete "ryzanstein-llm $argv[2..]" | cut -f 1
"""


@pytest.mark.parametrize(("words", "offered"), CASES)
def test_fish(ask, words: list[str], offered: list[str]) -> None:
    found = ask("fish", "--no-config", "-c", script=FISH, words=words)
    assert sorted(found) == sorted(offered)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_is_printed_whether_the_shell_is_there_or_not(
    shell: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    assert main(["completion", shell]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "_RYZANSTEIN_LLM_COMPLETE" in out
    assert f"{shell}_complete" in out


@pytest.mark.parametrize("instruction", ["tcsh_complete", "bash_nonsense", "x"])
def test_a_question_that_makes_no_sense_fails_quietly(
    instruction: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_RYZANSTEIN_LLM_COMPLETE", instruction)
    assert main(["--help"]) == 1
    assert capsys.readouterr() == ("", "")
