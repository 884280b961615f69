"""`ryzanstein-llm info`: what this machine offers and what a model needs."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .console import write
from .model import add_model_options, open_model

__all__ = ["add_parser", "run"]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "info",
        help="describe the CPU, the threads and a model",
        description="Print CPU features and kernel tier, threads and why, model and memory.",
    )
    add_model_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    # The CPU comes before the model is opened: it is what one wants to see if that fails.
    import ryzanstein_llm

    _print_section("CPU", _describe_cpu(ryzanstein_llm.cpu_info()))
    with open_model(arguments) as model:
        facts = model.info()
        _print_section("threads", _describe_threads(facts["threads"]))
        _print_section("model", _describe_model(facts))
        _print_section("memory", _describe_memory(facts))
    return 0


def _describe_cpu(cpu: Mapping[str, Any]) -> dict[str, str]:
    forced = os.environ.get("RYZANSTEIN_ISA")
    return {
        "features": _words(cpu["features"]),
        "tier": cpu["tier"] + (f" (forced by RYZANSTEIN_ISA={forced})" if forced else ""),
        "available": _words(cpu["available_tiers"]),
        "compiled": _words(cpu["compiled_tiers"]),
    }


def _describe_threads(threads: Any) -> dict[str, str]:
    quota = "none" if threads.quota is None else f"{threads.quota:.2f} CPUs"
    return {
        "count": str(threads.count),
        "because": threads.reason,
        "allowed CPUs": str(threads.affinity),
        "physical cores": str(threads.physical_cores),
        "group quota": quota,
    }


def _describe_model(facts: Mapping[str, Any]) -> dict[str, str]:
    return {
        "path": str(facts["path"]),
        "family": facts["family"],
        "parameters": f"{facts['parameters']:,}",
        "layers": str(facts["n_layers"]),
        "hidden size": str(facts["hidden_size"]),
        "vocabulary": f"{facts['vocab_size']:,}",
        "context": f"{facts['context_length']:,} tokens",
        "end of text": _words(facts["eos_ids"]) or "none",
        "tokenizer": "yes" if facts["has_tokenizer"] else "no: token ids only",
    }


def _describe_memory(facts: Mapping[str, Any]) -> dict[str, str]:
    per_token = facts["kv_bytes_per_token"]
    full = format_bytes(per_token * facts["context_length"])
    memory = {
        "weights": f"{format_bytes(facts['weight_bytes'])}, ternary ones {facts['weight_format']}",
        "packed file": str(facts["packed_file"] or "none: weights were packed for this process"),
        "KV cache": f"{format_bytes(per_token)} a token ({facts['kv_dtype']}), {full} when full",
    }
    resident = _resident_bytes()
    if resident is not None:
        memory["process"] = (
            f"{format_bytes(resident[0])} resident, {format_bytes(resident[1])} peak"
        )
    return memory


def _print_section(title: str, facts: Mapping[str, str]) -> None:
    lines = [f"  {name:<15} {value}" for name, value in facts.items()]
    write("\n".join([title, *lines]) + "\n")


def format_bytes(count: int) -> str:
    """Decimal units: `5 B`, `1.5 kB`, `3.3 MB`."""
    size, units = float(count), ["TB", "GB", "MB", "kB", "B"]
    unit = units.pop()
    while size >= 999.5 and units:
        size /= 1000
        unit = units.pop()
    return f"{size:.0f} {unit}" if unit == "B" or size >= 99.95 else f"{size:.1f} {unit}"


def _words(values: Iterable[object]) -> str:
    return ", ".join(str(value) for value in values)


def _resident_bytes(status: Path = Path("/proc/self/status")) -> tuple[int, int] | None:
    """Resident memory of this process now and at its highest; None where unknown."""
    try:
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmRSS"].split()[0]) * 1024, int(lines["VmHWM"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
