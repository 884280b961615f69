"""Beside others: threads, forks, spawned processes, signals, PyTorch. No hang, no crash, same text.

Each scenario runs in a process of its own, with a time limit.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_model import write_small_model

import ryzanstein_llm

LIMIT = 120
TALE = 'model.generate("Once upon a time", max_tokens=25)'


def run(script: str, *arguments: str, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "2", **environment},
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def tale() -> str:
    return run(f"import ryzanstein_llm; model = ryzanstein_llm.BitNetModel(); print({TALE})")


def test_sources_without_compiled_kernels_say_so(tmp_path: Path) -> None:
    """As in a clone after `pip install .`: Python finds the clone's sources first."""
    package = Path(ryzanstein_llm.__file__).parent
    shutil.copytree(
        package, tmp_path / package.name, ignore=shutil.ignore_patterns("*.so", "*.pyd", "demo")
    )
    for code in (
        "import ryzanstein_llm; ryzanstein_llm.BitNetModel()",
        "from ryzanstein_llm import cpu_info",
        "from ryzanstein_llm import bench",
        "import ryzanstein_llm.kernels.linear",
    ):
        result = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
        )
        last = result.stderr.splitlines()[-1]
        assert last.startswith(f"ImportError: {tmp_path / package.name}"), result.stderr
        assert "pip install -e ." in last


# Small matrices would never use a team; these scenarios are about teams.
PARALLEL = "from ryzanstein_llm.engine import compute; compute.SERIAL_BELOW = 0\n"


def test_two_models_in_two_threads(tale):
    script = f"""{PARALLEL}
import threading, ryzanstein_llm
def work():
    with ryzanstein_llm.BitNetModel() as model:
        texts.append({TALE})
texts = []
threads = [threading.Thread(target=work) for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(texts) == 2 and texts[0] == texts[1]
print(texts[0])
"""
    assert run(script) == tale


def test_sixteen_threads_with_a_session_each(tale):
    script = f"""{PARALLEL}
import threading, ryzanstein_llm
model = ryzanstein_llm.BitNetModel()
def work():
    with model.session() as session:
        texts.append(session.generate("Once upon a time", max_tokens=25))
        texts.append({TALE})
texts = []
threads = [threading.Thread(target=work) for _ in range(16)]
for thread in threads: thread.start()
most = 0
while any(thread.is_alive() for thread in threads):
    most = max(most, len(__import__("os").listdir("/proc/self/task")))
    threads[0].join(0.01)
for thread in threads: thread.join()
assert len(texts) == 32 and len(set(texts)) == 1, set(texts)
print(texts[0])
"""
    assert run(script) == tale


FORK = """
import os, sys, ryzanstein_llm
model = ryzanstein_llm.BitNetModel()
{before}
child = os.fork()
if child == 0:
    try:
        with open(sys.argv[1], "w") as file:
            print({tale}, file=file)
        os._exit(0)
    except BaseException as error:
        sys.stderr.write(repr(error))
        os._exit(1)
_, status = os.waitpid(child, 0)
assert status == 0, status
print({tale})
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize(
    "before",
    [
        "",
        TALE,
        "stream = model.stream('The king'); next(stream)",  # a pooled session in use
        "import threading, time\n"
        "work = lambda: [model.forward([5] * 400) for _ in range(20)]\n"
        "threading.Thread(target=work, daemon=True).start()\n"
        "time.sleep(0.05)",  # a pass is under way elsewhere
    ],
    ids=["fresh", "after-generating", "while-streaming", "while-computing"],
)
def test_a_forked_child(tale, tmp_path, before):
    path = tmp_path / "child.txt"
    assert run(PARALLEL + FORK.format(before=before, tale=TALE), str(path)) == tale
    assert path.read_text() == tale


def test_spawned_children(tale, tmp_path):
    script = tmp_path / "spawning.py"
    script.write_text(f"""
import multiprocessing, ryzanstein_llm
def work(_):
    with ryzanstein_llm.BitNetModel() as model:
        return {TALE}
if __name__ == "__main__":
    with ryzanstein_llm.BitNetModel() as model:
        print({TALE})
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for text in pool.map(work, range(2)):
            print(text)
""")
    result = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=LIMIT, check=True
    )
    assert result.stdout == 3 * tale


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_ctrl_c_during_a_long_prompt_leaves_a_usable_session(tmp_path):
    directory = write_small_model(tmp_path / "model")
    script = f"""{PARALLEL}
import sys, time, ryzanstein_llm
model = ryzanstein_llm.BitNetModel(sys.argv[1], n_threads=2)
session = model.session()
session.generate([2, 3], max_tokens=2, ignore_eos=True, return_result=True)
before = session.tokens
print("ready", flush=True)
try:
    while True:
        session.generate(list(range(2, 290)) * 4, max_tokens=1, return_result=True)
        session.truncate(len(before))
except KeyboardInterrupt:
    started = time.perf_counter()
session.truncate(len(before))
again = session.generate([], max_tokens=5, ignore_eos=True, return_result=True).ids
assert again == model.generate(before, max_tokens=5, ignore_eos=True, return_result=True).ids
print("usable")
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(directory)],
        env={**os.environ, "RYZANSTEIN_ISA": "scalar"},  # slow enough to hit
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=LIMIT)
    finally:
        process.kill()  # it would generate for ever
    assert (process.returncode, out) == (0, "usable\n"), err


@pytest.mark.parity
@pytest.mark.parametrize("first", ["torch", "ryzanstein_llm"])
def test_beside_torch(tale, first):
    if importlib.util.find_spec("torch") is None:
        pytest.skip('PyTorch is not installed: pip install -e ".[test,parity]"')
    second = {"torch": "ryzanstein_llm", "ryzanstein_llm": "torch"}[first]
    script = f"""
import {first}, {second}
model = ryzanstein_llm.BitNetModel()
for _ in range(3):
    x = torch.randn(300, 300)
    assert torch.isfinite(x @ x).all()
    torch.set_flush_denormal(True)
    text = {TALE}
print(text)
"""
    assert run(script) == tale


def test_teams_end_with_the_threads_that_had_them():
    if not Path("/proc/self/task").exists():
        pytest.skip("this system does not list threads under /proc")
    script = f"""{PARALLEL}
import os, threading, time, ryzanstein_llm
model = ryzanstein_llm.BitNetModel(n_threads=3)
def count(): return len(os.listdir("/proc/self/task"))
{TALE}
before = count()  # with the main thread's team, and whatever NumPy started
stay, done = threading.Event(), []
def work():
    done.append({TALE})
    stay.wait()
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
while len(done) < 8: time.sleep(0.01)
deadline = time.time() + 20  # ending a worker takes a moment
while count() > before + 8 and time.time() < deadline: time.sleep(0.01)
print(count() - before)
stay.set()
"""
    assert int(run(script)) == 8  # the callers, idle now, without workers of their own


def test_loading_leaves_the_environment_as_it_was():
    script = """
import os
before = dict(os.environ)
import ryzanstein_llm
ryzanstein_llm.cpu_info()
assert dict(os.environ) == before
"""
    run(script)
    run(script, OMP_WAIT_POLICY="passive")
    run(script, GOMP_SPINCOUNT="5")


@pytest.mark.skipif(sys.platform != "linux", reason="reads what libgomp prints on Linux")
@pytest.mark.parametrize(
    ("chosen", "expected"), [({}, "1000"), ({"GOMP_SPINCOUNT": "77"}, "77")], ids=["ours", "theirs"]
)
def test_waiting_threads_spin_briefly(chosen, expected):
    result = subprocess.run(
        [sys.executable, "-c", "import ryzanstein_llm; ryzanstein_llm.cpu_info()"],
        env={**os.environ, "OMP_DISPLAY_ENV": "verbose", **chosen},
        capture_output=True,
        text=True,
        check=True,
    )
    if "GOMP_SPINCOUNT" not in result.stderr:
        pytest.skip("this OpenMP runtime is not libgomp")
    assert f"GOMP_SPINCOUNT = '{expected}'" in result.stderr
