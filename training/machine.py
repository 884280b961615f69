"""What a run computes on: device, number type, compiler."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass

import torch

from ryzanstein_llm.errors import InvalidParameterError

from .words import count

__all__ = ["Machine", "choose_machine"]


@dataclass(frozen=True)
class Machine:
    """
    Attributes
    ----------
    device : torch.device
    bfloat16 : bool
        Autocast, so that matrix products are in bfloat16.
    compiled : bool
        torch.compile.
    name : str
        For people.
    """

    device: torch.device
    bfloat16: bool
    compiled: bool
    name: str

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        if not self.bfloat16:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)


def choose_machine(
    device: str | None = None,
    precision: str = "auto",
    compiled: bool | None = None,
    threads: int | None = None,
) -> Machine:
    """CUDA where there is one, else the CPU. Sets PyTorch up for it, for the whole process.

    Parameters
    ----------
    precision
        `"bfloat16"`, `"float32"`, or `"auto"`: bfloat16 where the processor multiplies it.
    compiled
        None: if there is a C++ compiler, which torch.compile needs on a CPU.
    threads
        Of the CPU, for the whole process. None: as many as PyTorch takes.

    Raises
    ------
    InvalidParameterError
        A value is out of range, or there is no such device.
    """
    if threads is not None:
        if threads < 1:
            raise InvalidParameterError(f"threads must be at least 1, not {threads}")
        torch.set_num_threads(threads)
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
        if chosen.type == "cuda":
            torch.cuda.get_device_name(chosen)
    except (RuntimeError, AssertionError) as error:  # as PyTorch puts it
        raise InvalidParameterError(f"device {device!r}: {str(error).splitlines()[0]}") from None
    if precision not in ("auto", "bfloat16", "float32"):
        raise InvalidParameterError(
            f"precision must be auto, bfloat16 or float32, not {precision!r}"
        )
    if chosen.type == "cuda":
        name = torch.cuda.get_device_name(chosen)
        able = torch.cuda.is_bf16_supported(including_emulation=False)
        compiler = True
        torch.backends.cuda.matmul.allow_tf32 = True
    else:
        found = torch.cpu.get_capabilities()
        name = f"{found.get('cpu_name', 'CPU')}, {count(torch.get_num_threads(), 'thread')}"
        able = bool(found.get("avx512_bf16") or found.get("amx_bf16"))
        compiler = shutil.which(os.environ.get("CXX", "g++")) is not None
        # Compiled code adds up the embedding's gradient in any order else, and a run that was
        # interrupted would end with other weights. It costs no time that could be measured.
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # only finds mistakes
    return Machine(
        chosen,
        bfloat16=able if precision == "auto" else precision == "bfloat16",
        compiled=compiler if compiled is None else compiled,
        name=name,
    )
