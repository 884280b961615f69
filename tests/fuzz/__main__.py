"""The long run: all targets in turns, with progress, and a table at the end. Ctrl-C interrupts it;
the next call goes on.

    python -m tests.fuzz --executions 3000000 --json fuzz.json
    python -m tests.fuzz --target config --target weights --executions 10000 --anew
    python -m tests.fuzz --input build/fuzz/config/findings/0123456789ab --target config
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from .state import State

ROOT = Path(__file__).resolve().parent.parent.parent
SLICE = 30.0  # seconds that a target runs before it is the next one's turn
HANG = 60.0  # seconds of CPU without an end of an input


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.fuzz", description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--executions", type=int, default=3_000_000, help="inputs, all targets together")
    add("--target", action="append", help="default: all")
    add("--folder", type=Path, default=ROOT / "build" / "fuzz", help="counts, corpora, findings")
    add("--slice", type=float, default=SLICE, help="seconds of a target's turn")
    add("--json", type=Path, help="also write the summary there")
    add("--anew", action="store_true", help="forget earlier runs")
    add("--input", type=Path, help="run one input and show what happens")
    given = parser.parse_args()
    names = given.target or _names()
    unknown = [name for name in names if name not in _names()]
    if unknown:
        parser.error(f"no target {unknown[0]}; there are {', '.join(_names())}")
    if given.input:
        return _show(names[0], given.input.read_bytes())
    if given.anew:
        shutil.rmtree(given.folder, ignore_errors=True)
    given.folder.mkdir(parents=True, exist_ok=True)
    return _Fuzzing(given.folder, names, given.executions, given.slice).run(given.json)


def _names() -> list[str]:
    from . import targets
    from .target import TARGETS

    assert targets
    return list(TARGETS)


def _show(name: str, data: bytes) -> int:
    from .check import check
    from .target import TARGETS

    with tempfile.TemporaryDirectory() as scratch:
        click.echo(check(TARGETS[name](Path(scratch)).read, data))
    return 0


class _Fuzzing:
    def __init__(self, folder: Path, names: list[str], executions: int, slice: float) -> None:
        self._folder, self._names, self._wanted, self._slice = folder, names, executions, slice
        self._path = folder / "counts.json"
        self._counts: dict[str, Any] = {}
        if self._path.exists():
            self._counts = json.loads(self._path.read_text())

    @property
    def _total(self) -> int:
        return sum(each["executions"] for each in self._counts.values())

    def run(self, summary: Path | None) -> int:
        try:
            while self._total < self._wanted:
                for name in self._names:
                    if self._total < self._wanted:
                        self._turn(name)
        except KeyboardInterrupt:
            click.echo("interrupted; the next call goes on")
        click.echo(self._table())
        if summary is not None:
            summary.write_text(json.dumps(self._summary(), indent=1) + "\n")
        return 1 if self._findings() else 0

    def _turn(self, name: str) -> None:
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        count = self._counts.setdefault(
            name, {"executions": 0, "seconds": 0.0, "turns": 0, "outcomes": {}}
        )
        state = State(folder)
        state.reset()
        seed = 1 + count["turns"]
        left = self._wanted - self._total
        command = [sys.executable, "-m", "tests.fuzz.child", name, str(folder), str(seed)]
        begin = time.monotonic()
        with (folder / "log.txt").open("wb") as log:
            child = subprocess.Popen(
                [*command, str(left), str(self._slice)], stdout=log, stderr=log, cwd=ROOT
            )
            try:
                _wait(child, state)
            finally:
                if child.poll() is None:
                    child.kill()
                    child.wait()
                count["executions"] += state.executions
                count["seconds"] = round(count["seconds"] + time.monotonic() - begin, 1)
                count["turns"] += 1
                count["outcomes"] = dict(Counter(count["outcomes"]) + state.outcomes)
                self._path.write_text(json.dumps(self._counts, indent=1))
        self._judge(child.returncode, state, folder)
        found = len(self._findings(name))
        click.echo(
            f"{self._total:>10,}  {name:<20} {state.executions:>8,} inputs in "
            f"{time.monotonic() - begin:4.0f} s" + (f", {found} findings" if found else ""),
        )

    def _judge(self, code: int, state: State, folder: Path) -> None:
        data = state.unfinished
        if code == 0:
            return
        if data is None:
            log = (folder / "log.txt").read_text("utf-8", "replace")
            raise SystemExit(f"{folder.name} ended with {code} outside of an input:\n{log[-3000:]}")
        kept = folder / "findings" / f"ended-{abs(code)}-{len(data)}"
        kept.write_bytes(data)
        shutil.copy(folder / "log.txt", kept.with_suffix(".txt"))

    def _findings(self, name: str = "*") -> list[Path]:
        return [p for p in self._folder.glob(f"{name}/findings/*") if p.suffix != ".txt"]

    def _summary(self) -> dict[str, Any]:
        revision = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT
        ).stdout.strip()
        targets = {
            name: {
                **each,
                "corpus": len(list((self._folder / name / "corpus").glob("*"))),
                "findings": len(self._findings(name)),
            }
            for name, each in self._counts.items()
        }
        return {
            "commit": revision,
            "date": time.strftime("%Y-%m-%d"),
            "guided": find_spec("atheris") is not None,
            "executions": self._total,
            "findings": len(self._findings()),
            "targets": targets,
        }

    def _table(self) -> str:
        lines = [
            "| Reader | Inputs | Accepted | Errors | Corpus | Findings |",
            "|---|--:|--:|--:|--:|--:|",
        ]
        summary = self._summary()
        for name, each in summary["targets"].items():
            accepted = each["outcomes"].get("accepted", 0)
            refused = sum(each["outcomes"].values()) - accepted
            lines.append(
                f"| `{name}` | {each['executions']:,} | {accepted:,} | {refused:,} | "
                f"{each['corpus']:,} | {each['findings']} |"
            )
        lines.append(f"| together | {summary['executions']:,} | | | | {summary['findings']} |")
        return "\n".join(lines)


def _wait(child: subprocess.Popen[bytes], state: State) -> None:
    """Until the child ends; one that uses CPU and finishes no input is killed."""
    count, since = -1, 0.0
    while child.poll() is None:
        try:
            child.wait(1.0)
        except subprocess.TimeoutExpired:
            used = _cpu_seconds(child.pid)
            if state.executions != count:
                count, since = state.executions, used
            elif state.unfinished is not None and used - since > HANG:
                child.kill()


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / 100


if __name__ == "__main__":
    sys.exit(main())
