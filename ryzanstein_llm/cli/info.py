"""`ryzanstein-llm info`: what this machine offers and what a model needs."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import click

from .command import Command, option, spellings
from .console import write
from .model import model_options, model_path, open_model
from .progress import ProgressBar

__all__ = ["command"]


@click.command(
    "info",
    cls=Command,
    short_help="describe the CPU, the threads and a model",
    help="""Show CPU features, kernel tier, number of threads and why, model and memory.

With PATH, show what the checkpoint there holds and how much memory it needs, without loading
it.""",
)
@click.argument("checkpoint", metavar="[PATH]", required=False, type=click.Path())
@option("--json", "as_json", is_flag=True, section="Output", help="one JSON object")
@model_options
def command(checkpoint: str | None, **given: Any) -> int:
    import ryzanstein_llm

    if checkpoint is not None:
        context = click.get_current_context()
        given_too = spellings(context).keys() & {"path", "n_threads", "no_cache"}
        if given_too:
            wrong = spellings(context)[min(given_too)]
            problem = f"{wrong} is for a model that is loaded, and PATH is not"
            raise click.UsageError(problem, context)
        return _inspect(checkpoint, given)
    cpu = ryzanstein_llm.cpu_info()
    # The CPU is printed before the model is opened, because it helps if opening fails.
    if not given["as_json"]:
        _print_section("CPU", _describe_cpu(cpu))
    with open_model(given) as model:
        facts = model.info()
        if given["as_json"]:
            import json
            from dataclasses import asdict

            facts["threads"] = asdict(facts["threads"])
            resident, peak = _resident_bytes() or (None, None)
            found = {
                "version": ryzanstein_llm.__version__,
                "cpu": cpu,
                "model": facts,
                "process": {"resident_bytes": resident, "peak_bytes": peak},
            }
            write(json.dumps(found, default=str) + "\n")
            return 0
        _print_section("threads", _describe_threads(facts["threads"]))
        _print_section("model", _describe_model(facts))
        _print_section("memory", _describe_memory(facts))
    return 0


def _inspect(path: str, given: Mapping[str, Any]) -> int:
    from ..inspection import inspect_checkpoint

    options = {name: given[name] for name in ("context_length", "kv_dtype", "weight_format")}
    with (
        contextlib.closing(ProgressBar(sys.stderr)) as bar,
        model_path({**given, "path": path}, bar.update) as found_path,
    ):
        facts = inspect_checkpoint(found_path, **options)
    if given["as_json"]:
        import json
        from dataclasses import asdict

        found = {**facts, "memory": asdict(facts["memory"])}
        write(json.dumps(found, default=str) + "\n")
        return 0
    _print_section("checkpoint", _describe_checkpoint(facts))
    _print_section("memory needed", _describe_needed(facts))
    return 0


def _describe_checkpoint(facts: Mapping[str, Any]) -> dict[str, str]:
    per_group = facts["activations"].removeprefix("group")
    each = "token" if facts["activations"] == "token" else f"{per_group} columns"
    return {
        "path": str(facts["path"]),
        "family": facts["family"],
        "parameters": f"{facts['parameters']:,}",
        "tensors": ", ".join(f"{kind} x {count}" for kind, count in facts["tensors"].items()),
        "weights": facts["weights"],
        "activations": f"int8 with a scale for each {each}",
        "head": "the embedding" if facts["tied_head"] else "a matrix of its own",
        "context": f"{facts['context_length']:,} tokens",
        "tokenizer": "yes" if facts["has_tokenizer"] else "no: token ids only",
        "chat template": "yes" if facts["has_chat_template"] else "no",
    }


def _describe_needed(facts: Mapping[str, Any]) -> dict[str, str]:
    from ..text_table import format_bytes

    memory, machine = facts["memory"], facts["machine_memory"]
    mapped = f", {format_bytes(memory.mapped)} of it read when needed" if memory.mapped else ""
    found = {
        "layers": format_bytes(memory.weights),
        "embedding, head": format_bytes(memory.embedding) + mapped,
        "screen": format_bytes(memory.screen),
        "KV cache": _when_full(memory.kv_cache),
        "workspace": format_bytes(memory.workspace + memory.tokenizer) + " with the tokenizer",
        "while loading": format_bytes(memory.peak_while_loading),
        "total": format_bytes(memory.total),
    }
    if machine is not None:
        enough = "enough" if machine >= memory.needed else "not enough"
        found["this machine"] = f"{format_bytes(machine)}: {enough}"
    return found


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
    from ..text_table import format_bytes

    per_token, full = facts["kv_bytes_per_token"], facts["kv_cache_bytes"]
    memory = {
        "weights": f"{format_bytes(facts['weight_bytes'])}, ternary ones {facts['weight_format']}",
        "packed file": str(facts["packed_file"] or "none: weights were packed for this process"),
        "KV cache": f"{format_bytes(per_token)} a token ({facts['kv_dtype']}); {_when_full(full)}",
    }
    resident = _resident_bytes()
    if resident is not None:
        memory["process"] = (
            f"{format_bytes(resident[0])} resident, {format_bytes(resident[1])} peak"
        )
    return memory


def _when_full(nbytes: int) -> str:
    from ..interfaces.kv_layout import BLOCK_POSITIONS
    from ..text_table import format_bytes

    return (
        f"{format_bytes(nbytes)} when full, in blocks of {BLOCK_POSITIONS} tokens and whole pages"
    )


def _print_section(title: str, facts: Mapping[str, str]) -> None:
    import shutil

    from ..text_table import WIDTH, fields

    width = min(WIDTH, shutil.get_terminal_size().columns)
    write(f"{title}\n{fields(facts, 15, indent=2, width=width)}")


def _words(values: Iterable[object]) -> str:
    return ", ".join(str(value) for value in values)


def _resident_bytes() -> tuple[int, int] | None:
    """Resident memory of this process now and its peak, in bytes; None if unknown."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            lines = dict(line.split(":", 1) for line in status)
        return int(lines["VmRSS"].split()[0]) * 1024, int(lines["VmHWM"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
