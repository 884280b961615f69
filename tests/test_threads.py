"""How many threads, and why: on machines made of a few files under a temporary root."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest

from ryzanstein_llm import BitNetModel
from ryzanstein_llm.errors import InvalidParameterError
from ryzanstein_llm.kernels.stack_size import stack_size
from ryzanstein_llm.kernels.threads import measure_team, possible_team, release_team
from ryzanstein_llm.system import threads
from ryzanstein_llm.system.cgroup import cpu_quota
from ryzanstein_llm.system.threads import MAX_THREADS, WEIGHTS_PER_THREAD, choose_threads

V2_MOUNT = "31 23 0:28 / /sys/fs/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw\n"
V1_MOUNT = "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"


class Machine:
    """A root directory with the parts of `/proc` and `/sys` that are read, and a set of CPUs."""

    def __init__(self, root, monkeypatch):
        self.root = root
        self._monkeypatch = monkeypatch
        self.allow(range(8))

    def write(self, path, text):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return self

    def allow(self, cpus):
        self._monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(cpus), raising=False)
        return self

    def siblings(self, *groups):
        """One core for each group of logical CPUs."""
        for group in groups:
            for cpu in group:
                path = f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
                self.write(path, ",".join(map(str, group)) + "\n")
        return self

    def group_v2(self, path, **quotas):
        """This process is in `path`; quotas by directory, `top` is the mount point."""
        self.write("proc/self/cgroup", f"0::{path}\n").write("proc/self/mountinfo", V2_MOUNT)
        for directory, text in quotas.items():
            below = "" if directory == "top" else directory.replace("_", "/") + "/"
            self.write(f"sys/fs/cgroup/{below}cpu.max", text + "\n")
        return self

    def choose(self, n_threads=None):
        return choose_threads(n_threads, root=self.root)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return Machine(tmp_path, monkeypatch)


class TestTheMachinesOwnLimit:
    def test_a_system_that_says_nothing_gives_its_cpus(self, machine):
        choice = machine.choose()
        assert (choice.count, choice.affinity, choice.quota, choice.physical_cores) == (
            8, 8, None, 8,
        )  # fmt: skip

    def test_threads_of_one_core_count_once(self, machine):
        choice = machine.siblings((0, 4), (1, 5), (2, 6), (3, 7)).choose()
        assert (choice.count, choice.reason) == (4, "4 physical cores")

    def test_only_cores_of_allowed_cpus_count(self, machine):
        machine.siblings((0, 4), (1, 5), (2, 6), (3, 7))
        assert machine.allow({0, 4, 1}).choose().count == 2
        assert machine.allow({2, 3}).choose().count == 2
        choice = machine.allow({0, 4}).choose()
        assert (choice.count, choice.reason) == (1, "1 physical core")

    def test_a_cpu_without_topology_is_a_core(self, machine):
        assert machine.siblings((0, 1), (2, 3)).choose().physical_cores == 6

    @pytest.mark.parametrize(
        ("limit", "count"),
        [("350000 100000", 3), ("100000 100000", 1), ("20000 100000", 1), ("900000 100000", 8)],
    )
    def test_a_quota_is_rounded_down_but_not_to_nothing(self, machine, limit, count):
        assert machine.group_v2("/", top=limit).choose().count == count

    def test_a_quota_that_decides_is_the_reason(self, machine):
        choice = machine.group_v2("/", top="250000 100000").choose()
        assert choice.reason == "control group quota of 2.50 CPUs"
        assert choice.quota == 2.5

    def test_systems_without_affinity_count_their_cpus(self, machine, monkeypatch):
        monkeypatch.delattr(os, "sched_getaffinity", raising=False)
        monkeypatch.setattr(os, "cpu_count", lambda: 6)
        assert machine.choose().count == 6
        monkeypatch.setattr(os, "cpu_count", lambda: None)
        assert machine.choose().count == 1

    def test_this_machine_has_an_answer(self, monkeypatch):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        choice = choose_threads()
        assert 1 <= choice.count <= min(choice.affinity, choice.physical_cores)
        assert not choice.oversubscribed


class TestControlGroups:
    def test_no_limit(self, machine):
        assert cpu_quota(machine.root) is None
        assert cpu_quota(machine.group_v2("/a", top="max 100000", a="max 100000").root) is None

    def test_the_smallest_quota_up_to_the_top_counts(self, machine):
        machine.group_v2("/a/b", top="max 100000", a="200000 100000", a_b="400000 100000")
        assert cpu_quota(machine.root) == 2.0

    def test_a_sibling_group_does_not_count(self, machine):
        machine.group_v2("/a/b", a_b="400000 100000", a_c="100000 100000")
        assert cpu_quota(machine.root) == 4.0

    def test_version_1(self, machine):
        machine.write("proc/self/cgroup", "5:memory:/x\n4:cpu,cpuacct:/a/b\n")
        machine.write("proc/self/mountinfo", V1_MOUNT)
        cpu = "sys/fs/cgroup/cpu"
        machine.write(f"{cpu}/cpu.cfs_quota_us", "-1\n").write(f"{cpu}/cpu.cfs_period_us", "100000")
        machine.write(f"{cpu}/a/b/cpu.cfs_quota_us", "150000\n")
        machine.write(f"{cpu}/a/b/cpu.cfs_period_us", "50000\n")
        assert cpu_quota(machine.root) == 3.0

    def test_both_versions_side_by_side(self, machine):
        mounts = V1_MOUNT + V2_MOUNT.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
        machine.write("proc/self/mountinfo", mounts)
        machine.write("proc/self/cgroup", "1:cpu:/\n0::/u\n")
        machine.write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "500000")
        machine.write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000")
        assert cpu_quota(machine.root) == 5.0
        machine.write("sys/fs/cgroup/unified/u/cpu.max", "300000 100000")
        assert cpu_quota(machine.root) == 3.0

    def test_a_container_that_sees_the_hosts_name_of_its_group(self, machine):
        mount = V2_MOUNT.replace(" / /sys", " /docker/1f3a /sys")
        machine.write("proc/self/mountinfo", mount)
        machine.write("proc/self/cgroup", "0::/docker/1f3a/inner\n")
        machine.write("sys/fs/cgroup/cpu.max", "200000 100000")
        machine.write("sys/fs/cgroup/inner/cpu.max", "100000 100000")
        assert cpu_quota(machine.root) == 1.0

    @pytest.mark.parametrize("group", ["/../outside", "/elsewhere"])
    def test_a_group_outside_the_view_leaves_the_mount_point(self, machine, group):
        machine.write("proc/self/mountinfo", V2_MOUNT.replace(" / /sys", " /docker/1f3a /sys"))
        machine.write("proc/self/cgroup", f"0::{group}\n")
        machine.write("sys/fs/cgroup/cpu.max", "200000 100000")
        assert cpu_quota(machine.root) == 2.0

    def test_a_mount_point_with_a_space(self, machine):
        machine.write("proc/self/mountinfo", V2_MOUNT.replace("/cgroup ", "/my\\040groups "))
        machine.write("proc/self/cgroup", "0::/\n")
        machine.write("sys/fs/my groups/cpu.max", "200000 100000")
        assert cpu_quota(machine.root) == 2.0

    @pytest.mark.parametrize("limit", ["", "x y", "100000", "0 100000", "100000 0", "-5 100000"])
    def test_what_cannot_be_understood_is_no_limit(self, machine, limit):
        assert cpu_quota(machine.group_v2("/", top=limit).root) is None

    def test_broken_lines_are_passed_over(self, machine):
        machine.group_v2("/", top="200000 100000")
        machine.write("proc/self/mountinfo", "nonsense\n\n - \n" + V2_MOUNT)
        machine.write("proc/self/cgroup", "nonsense\n\n0::/\n")
        assert cpu_quota(machine.root) == 2.0


class TestWhatIsAskedFor:
    def test_the_argument_wins_and_is_obeyed_exactly(self, machine, monkeypatch):
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        choice = machine.group_v2("/", top="100000 100000").choose(13)
        assert (choice.count, choice.reason) == (13, "n_threads=13")

    def test_the_variable_is_read_now(self, machine, monkeypatch):
        for value in ("3", " 5 ", "2"):
            monkeypatch.setenv("OMP_NUM_THREADS", value)
            assert machine.choose().count == int(value)
        assert machine.choose().reason == "OMP_NUM_THREADS=2"

    def test_of_a_list_for_nested_regions_the_first_counts(self, machine, monkeypatch):
        monkeypatch.setenv("OMP_NUM_THREADS", "4,2")
        assert machine.choose().count == 4

    @pytest.mark.parametrize("value", ["", "  "])
    def test_an_empty_variable_is_an_unset_one(self, machine, monkeypatch, value):
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        assert machine.choose().count == 8

    @pytest.mark.parametrize("value", ["abc", "0", "-2", "1.5", ",2", "1025", "4x", "9" * 5000])
    def test_a_bad_variable_is_named(self, machine, monkeypatch, value):
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        with pytest.raises(InvalidParameterError, match=f"OMP_NUM_THREADS must be .*{value[:9]}"):
            machine.choose()

    @pytest.mark.parametrize("value", [0, -1, MAX_THREADS + 1, 2.0, "2x", True, [2]])
    def test_a_bad_argument_is_named(self, machine, value):
        with pytest.raises(InvalidParameterError, match="n_threads must be"):
            machine.choose(value)

    def test_the_bounds_are_inclusive(self, machine):
        assert machine.choose(1).count == 1
        assert machine.choose(MAX_THREADS).count == MAX_THREADS


class TestTheSizeOfTheModel:
    def test_a_small_model_gets_a_thread_for_each_part_worth_one(self, machine):
        choice = machine.choose()
        assert choice.for_model(1).count == 1
        assert choice.for_model(2 * WEIGHTS_PER_THREAD - 1).count == 1
        assert choice.for_model(2 * WEIGHTS_PER_THREAD).count == 2
        assert choice.for_model(5 * WEIGHTS_PER_THREAD).count == 5

    def test_the_size_is_the_reason_where_it_decides(self, machine):
        assert machine.choose().for_model(6_000_000).reason == (
            "enough for a model of 6 million weights"
        )
        machine.siblings((0, 4), (1, 5), (2, 6), (3, 7))
        assert machine.choose().for_model(2_000_000_000).reason == "4 physical cores"

    def test_the_machine_remains_the_limit(self, machine):
        choice = machine.choose()
        assert choice.for_model(10**12) is choice

    def test_a_requested_number_is_obeyed(self, machine, monkeypatch):
        assert machine.choose(3).for_model(1).count == 3
        monkeypatch.setenv("OMP_NUM_THREADS", "4")
        assert machine.choose().for_model(1).count == 4

    def test_the_demo_model_runs_on_one_thread_unless_told(self, monkeypatch):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        with BitNetModel() as model:
            assert model.n_threads == 1
        with BitNetModel(n_threads=2) as model:
            assert model.n_threads == 2
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        with BitNetModel() as model:
            assert model.n_threads == 3


class TestOversubscription:
    @pytest.fixture(autouse=True)
    def level(self, caplog):
        caplog.set_level(logging.WARNING, logger=threads.__name__)

    def test_more_threads_than_cpus_are_logged(self, machine, caplog):
        assert machine.choose(9).oversubscribed
        assert caplog.messages == [
            "n_threads=9: 9 threads on 8 CPUs; they will wait for each other"
        ]

    def test_more_threads_than_the_quota_are_logged(self, machine, caplog, monkeypatch):
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        assert machine.group_v2("/", top="250000 100000").choose().oversubscribed
        [message] = caplog.messages
        assert message.startswith("OMP_NUM_THREADS=3: 3 threads on 8 CPUs and a quota of 2.50")

    def test_more_threads_than_cores_are_not(self, machine, caplog):
        assert not machine.siblings((0, 4), (1, 5), (2, 6), (3, 7)).choose(8).oversubscribed
        assert caplog.messages == []


# ---- where the system refuses threads, and where OpenMP binds them ------------------------------

REFUSED = """
import logging, resource, sys
logging.basicConfig(format="%(message)s")
import ryzanstein_llm
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (1 << 30), -1))  # room for a model, but for no stack
model = ryzanstein_llm.BitNetModel(n_threads=3)
print(model.n_threads, model.threads.reason)
print(model.generate("Once upon a time", max_tokens=4))
resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits as Linux has them")
def test_where_a_thread_is_refused_fewer_compute() -> None:
    environment = {**os.environ, "OMP_STACKSIZE": "4G"}
    done = subprocess.run(
        [sys.executable, "-c", REFUSED],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=120,
    )
    count, text = done.stdout.split("\n", 1)
    assert done.returncode == 0
    assert count == "1 the system refuses more threads"
    assert text.strip()
    assert "the system refuses to start more threads" in done.stderr


NO_MORE_PROCESSES = """
import asyncio, ctypes, logging, os, resource, sys
import ryzanstein_llm
logging.basicConfig(format="%(message)s")
tale, long = "Once upon a time", "once upon a time " * 10_000
def use(n_threads, text):
    with ryzanstein_llm.BitNetModel(n_threads=n_threads) as model:
        try:
            asyncio.run(model.agenerate(tale, max_tokens=4))
            error = None
        except ryzanstein_llm.errors.ResourceLimitError as refusal:
            error = refusal
        return error, model.n_threads, model.generate(tale, max_tokens=4), model.tokenize(text)
use(1, "a")  # imports everything
if os.fork() == 0:
    if os.getuid() == 0:  # whom limits do not concern: another user, who may read root's files
        os.setresuid(65533, 65533, 0)
        ctypes.CDLL(None).setfsuid(0)
    resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
    error, count, *found = use(3, long)
    assert error is not None and count == 1, (error, count)
    print(found)
    sys.stdout.flush()
    os._exit(0)
if os.wait()[1]:
    sys.exit("the limited process failed")
print(list(use(1, long)[2:]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits as Linux has them")
def test_where_no_thread_can_be_started_texts_and_ids_are_the_same() -> None:
    """The limit of processes counts the threads of a user."""
    done = subprocess.run(
        [sys.executable, "-c", NO_MORE_PROCESSES],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    refused, free = done.stdout.splitlines()
    assert refused == free
    assert done.stderr.count("the system refuses to start more threads") == 1


def test_a_team_can_have_the_threads_that_the_system_grants() -> None:
    for n_threads in (2, 5, 3, 1, 4):
        assert possible_team(n_threads) == measure_team(n_threads) == n_threads
        release_team()


STACK_SIZES = [
    (None, 0), ("", 0), ("512", 512 << 10), ("4G", 4 << 30), (" 3 m ", 3 << 20), ("100B", 100),
    ("7k", 7 << 10), ("-1", 0), ("lots", 0), ("1e3", 0), ("9" * 30, 0),
]  # fmt: skip


@pytest.mark.parametrize(("setting", "size"), STACK_SIZES)
def test_stack_sizes_as_openmp_writes_them(setting: str | None, size: int) -> None:
    assert stack_size(setting) == size


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs an affinity mask")
@pytest.mark.parametrize(
    "binding", [{"OMP_PROC_BIND": "true"}, {"OMP_PLACES": "cores"}, {"GOMP_CPU_AFFINITY": "0"}]
)
def test_cpus_are_counted_before_openmp_binds_this_thread(binding: dict[str, str]) -> None:
    code = "from ryzanstein_llm.system.threads import choose_threads as c; print(c().affinity)"
    environment = {name: value for name, value in os.environ.items() if name[:4] != "OMP_"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=environment | binding,
        timeout=120,
    )
    assert int(done.stdout) == len(os.sched_getaffinity(0))
