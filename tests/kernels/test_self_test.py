"""When a model opens, each kernel that it will use is compared with portable C."""

from __future__ import annotations

import ctypes
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reference import write_random_checkpoint, write_random_family

from ryzanstein_llm import BitNetModel, loading
from ryzanstein_llm.diagnosis.self_test import test_all_tiers as examine_all_tiers
from ryzanstein_llm.errors import KernelSelfTestError
from ryzanstein_llm.kernels import cpu
from ryzanstein_llm.kernels.attention import KV_KINDS
from ryzanstein_llm.kernels.kernel_use import KernelUse
from ryzanstein_llm.kernels.linear import ACTIVATIONS
from ryzanstein_llm.kernels.packing import GROUP_LAYOUTS, LAYOUTS
from ryzanstein_llm.kernels.self_test import CHECKS, UNCHECKED, check_kernels, failing_kernels
from ryzanstein_llm.kernels.sources import FLOAT_KINDS

from .table_copy import Entry, TableCopy, entries

ENTRIES = entries()
KINDS = {"dense": FLOAT_KINDS, "kv_app": KV_KINDS, "attend_b": KV_KINDS, "activate": ACTIVATIONS}
ALL_LAYOUTS = [*LAYOUTS, *GROUP_LAYOUTS]


def kinds_of(name: str) -> dict[str, int]:
    """What the functions of an entry that is an array are for, and their places."""
    if ENTRIES[name].count == 1:
        return {"": 0}
    return next(kinds for begin, kinds in KINDS.items() if name.startswith(begin))


WIDTHS = ((64, 100), (330, 37))  # the second with a rest in every layout


def uses_of(name: str, which: str, widths: tuple[tuple[int, int], ...] = WIDTHS) -> list[KernelUse]:
    """Uses of a kernel at some widths: columns and rows."""
    layouts = {
        "ternary_matmul": LAYOUTS,
        "ternary_rows": ("rows", "trit_rows"),
        "ternary_columns": ("columns", "trit_columns"),
        "ternary_columns_finish": ("columns", "trit_columns"),
        "group_matmul": GROUP_LAYOUTS,
        "group_matmul_floats": GROUP_LAYOUTS,
    }
    return [
        KernelUse(name, kind, columns, rows)
        for kind in layouts.get(name, (which,))
        for columns, rows in widths
    ]


# Of a call: the address of one byte that the kernel has written.
WRITTEN: dict[str, Callable[..., int]] = {
    "rms_norm": lambda x, weight, eps, n, out: out + 4 * (n - 1),
    "layer_norm": lambda x, weight, bias, eps, n, out: out + 4 * (n - 1),
    "quantize": lambda x, n, padded, codes, scale, total: codes + n - 1,
    "ternary_tables": lambda codes, columns, tables: tables + 5,
    "ternary_matmul": lambda w, begin, end, x, out, *rest: out + 4 * 16 * begin,
    "group_matmul": lambda w, begin, end, x, out, *rest: out + 4 * 16 * begin,
    "group_matmul_floats": lambda w, begin, end, x, stride, n, out, *rest: out + 4 * 16 * begin,
    "ternary_rows": lambda w, rows, count, x, out, stride: out + 4 * number_at(rows),
    # the second byte: what the first holds is shifted out in the form of some tiers
    "ternary_columns": lambda w, columns, count, values, stride, n, sums: sums + 1,
    "ternary_columns_finish": lambda w, sums, parts, x, t, row, end, out, store: out + 4 * row,
    "dense_matmul": lambda w, columns, row, end, x, n, out, stride: out + 4 * row,
    "dense_rows": lambda w, columns, rows, count, x, out: out + 4 * (count - 1),
    "screen": lambda head, begin, end, x, n, out: pointer_at(out),
    "activate": lambda x, n, out: out + 4 * (n - 1),
    "activate_gated": lambda gate, up, n, out: out + 4 * (n - 1),
    "softmax_weights": lambda x, n, out: out + 4 * (n - 1),
    "exp": lambda x, n, out: out + 4 * (n - 1),
    "rope": lambda x, heads, head_dim, cosine, sine: x + 4 * (heads * head_dim - 1),
    "kv_append": lambda k, v, head_dim, slot, block: pointer_at(block + 8),
    "attend_block": lambda q, stride, n, valid, hidden, head_dim, scale, block, out: out,
    "attend_combine": lambda running, partial, head_dim: running,
    "attend_finish": lambda running, head_dim, out: out,
}


def pointer_at(address: int) -> int:
    return ctypes.c_uint64.from_address(address).value


def number_at(address: int) -> int:
    return ctypes.c_int32.from_address(address).value


def one_bit_wrong(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A kernel that does what it should, and then flips the last bit of one number."""

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def kernel(*arguments: Any) -> Any:
            result = original(*arguments)
            ctypes.c_uint8.from_address(WRITTEN[name](*arguments)).value ^= 1
            return result

        return kernel

    return wrap


BREAKABLE = [
    pytest.param(name, which, index, id=f"{name}-{which}" if which else name)
    for name in ENTRIES
    if name not in UNCHECKED
    for which, index in kinds_of(name).items()
]


@pytest.mark.parametrize(("name", "which", "index"), BREAKABLE)
def test_the_narrowest_models(name: str, which: str, index: int) -> None:
    widths = tuple((columns, rows) for columns in (1, 2, 3, 4, 5, 7, 16) for rows in (1, 5))
    assert failing_kernels(uses_of(name, which, widths)) == []


def test_every_kernel_of_the_table_has_a_check() -> None:
    """A new member of rz_kernels needs a check in self_test.pyx or self_test_ternary.pyx, or a
    reason to be in UNCHECKED."""
    assert set(ENTRIES) == {*CHECKS, *UNCHECKED}


@pytest.mark.parametrize(("name", "which", "index"), BREAKABLE)
@pytest.mark.parametrize("tier", cpu.available_tiers())
def test_one_wrong_bit_of_any_kernel_of_any_tier_is_found(
    name: str, which: str, index: int, tier: str
) -> None:
    table, entry = TableCopy(tier), ENTRIES[name]
    if not table.has(entry, index):
        pytest.skip(f"{tier} has no {name}")
    table.replace(entry, index, one_bit_wrong(name))
    uses = uses_of(name, which)
    assert not failing_kernels(uses, tier)
    with table.in_use():
        assert failing_kernels(uses) == uses
        with pytest.raises(
            KernelSelfTestError, match=rf"tier {tier}: the kernel {name}\b"
        ) as found:
            check_kernels(uses)
    assert (found.value.tier, found.value.kernel) == (tier, name)


@pytest.mark.parametrize("name", ["dense_matmul", "kv_append", "attend_block", "activate_gated"])
def test_kernels_of_other_kinds_are_not_blamed(name: str) -> None:
    table = TableCopy(cpu.current_tier())
    (first, index), *others = kinds_of(name).items()
    table.replace(ENTRIES[name], index, one_bit_wrong(name))
    with table.in_use():
        assert failing_kernels(uses_of(name, first))
        for which, _ in others:
            assert not failing_kernels(uses_of(name, which))


def test_all_kernels_of_this_machine_pass_at_the_widths_of_2b_4t() -> None:
    for found in examine_all_tiers():
        assert found["failing"] == []


def test_a_model_does_not_open_on_a_broken_kernel() -> None:
    table = TableCopy(cpu.current_tier())
    table.replace(ENTRIES["rope"], 0, one_bit_wrong("rope"))
    with table.in_use():
        with pytest.raises(
            KernelSelfTestError, match="the kernel rope gives other results"
        ) as found:
            BitNetModel()
        if len(cpu.available_tiers()) > 1:
            other = next(t for t in cpu.available_tiers() if t != cpu.current_tier())
            assert f"RYZANSTEIN_ISA={other} uses other kernels" in str(found.value)
    with BitNetModel() as model:
        assert model.generate("Once", max_tokens=1)


def test_the_error_survives_pickling() -> None:
    error = KernelSelfTestError("avx2", "dense_rows", "BF16", 2560, ("scalar",))
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


def test_programs_that_raise_on_underflow_open_models_all_the_same() -> None:
    with np.errstate(all="raise"), BitNetModel() as model:
        assert model.n_threads == 1


class Spy:
    """Records which kernels are called, and with which widths."""

    def __init__(self, tier: str) -> None:
        self.table = TableCopy(tier)
        self.calls: set[tuple[str, str, int]] = set()
        for entry in ENTRIES.values():
            for which, index in kinds_of(entry.name).items():
                if self.table.has(entry, index):
                    self.table.replace(entry, index, self._recorder(entry, which))

    def _recorder(self, entry: Entry, which: str) -> Callable[..., Any]:
        def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
            def kernel(*arguments: Any) -> Any:
                self.calls.add(self._call(entry.name, which, arguments))
                return original(*arguments)

            return kernel

        return wrap

    @staticmethod
    def _call(name: str, which: str, arguments: tuple[Any, ...]) -> tuple[str, str, int]:
        if name.startswith(("ternary_", "group_")) and name != "ternary_tables":
            columns = ctypes.c_int64.from_address(arguments[0] + 16).value
            return name, ALL_LAYOUTS[number_at(arguments[0] + 52)], columns
        place = {"rms_norm": 3, "quantize": 1, "dense_matmul": 1, "dense_rows": 1, "rope": 2,
                 "kv_append": 2, "attend_block": 5, "attend_combine": 2, "attend_finish": 1,
                 "ternary_tables": 1}  # fmt: skip
        return name, which, arguments[place[name]] if name in place else 0


MODELS: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("bitnet", "master", {}, {}),
    ("bitnet", "master", {}, {"skipping": True}),
    ("bitnet", "master", {}, {"skipping": True, "weight_format": "1.6bit", "kv_dtype": "float32"}),
    ("bitnet", "master", {}, {"weight_format": "table", "kv_dtype": "int8"}),
    ("llama", "packed", {}, {}),
    ("qwen2", "row", {}, {}),
    ("qwen3", "group64", {}, {}),
    ("qwen3", "group128", {}, {"activations": "float32"}),
    ("hunyuan_v1_dense", "group128", {"tie_word_embeddings": True}, {}),
    ("gemma3_text", "master", {"tie_word_embeddings": True}, {}),
]


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[KernelUse]:
    """The uses that models were tested with since the beginning of the test."""
    found: list[KernelUse] = []

    def record(uses: list[KernelUse]) -> None:
        found.extend(uses)
        check_kernels(uses)

    monkeypatch.setattr(loading, "check_kernels", record)
    return found


@pytest.mark.parametrize(("family", "form", "config", "options"), MODELS)
def test_no_model_calls_a_kernel_that_was_not_tested_at_this_width(
    family: str, form: str, config: dict[str, Any], options: dict[str, Any],
    tmp_path: Path, checked: list[KernelUse], tier: str,
) -> None:  # fmt: skip
    if family == "bitnet":
        write_random_checkpoint(tmp_path, **config)
    else:
        write_random_family(tmp_path, family, form, **config)
    spy = Spy(tier)
    with spy.table.in_use(), BitNetModel(tmp_path, n_threads=1, **options) as model:
        spy.calls.clear()
        ids = [i % model.vocab_size for i in range(20)]
        model.generate(ids, max_tokens=3, ignore_eos=True, return_result=True)
        model.generate(
            ids[:2], max_tokens=3, temperature=1.0, ignore_eos=True, return_result=True, logprobs=2
        )
        model.forward(ids)
    tested = {(use.kernel, use.which, use.columns) for use in checked}
    free = {"activate_gated", "screen"}  # whose calls do not say it
    tested |= {(name, which, 0) for name, which, _ in tested if name in free}
    calls = {call for call in spy.calls if call[0] not in UNCHECKED}
    assert calls - tested == set()
    assert {"rms_norm", "rope", "softmax_weights"} <= {name for name, _, _ in spy.calls}
