"""`ryzanstein-llm doctor`: is all well on this machine, and what would be better?"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import click

from .command import Command, option, spellings, verbose_option
from .console import write
from .model import (
    DEMO_NAME,
    cache_option,
    format_option,
    kv_option,
    model_path,
    revision_option,
    threads_option,
)
from .progress import ProgressBar

__all__ = ["command"]

HELP = f"""\
Look at this machine: CPU and kernels, threads, memory, huge pages, OpenMP, packed weights. Test the
kernels of all tiers against portable C, measure how fast memory is read and int8 codes are
multiplied, and say what would be better and which command mends it. Takes some seconds.

With MODEL (a path, org/name, or {DEMO_NAME} for the built-in model), also open it, and compare its
tokens a second with what memory and CPU allow.

The exit code is 1 if a kernel gives wrong results.
"""


@click.command(
    "doctor",
    cls=Command,
    short_help="test and measure this machine, and say what would be better",
    help=HELP,
)
@click.argument("model", metavar="[MODEL]", required=False, type=click.Path())
@revision_option
@threads_option
@kv_option
@format_option
@cache_option
@option("--json", "as_json", is_flag=True, section="Output", help="one JSON object")
@verbose_option
@click.pass_context
def command(context: click.Context, /, model: str | None, **given: Any) -> int:
    if model is None:
        for name in ("revision", "kv_dtype", "weight_format"):
            if name in spellings(context):
                raise click.UsageError(f"{spellings(context)[name]} needs MODEL", context)
    from ..diagnosis import diagnose

    with (
        contextlib.closing(ProgressBar(sys.stderr)) as bar,
        model_path({**given, "path": model}, bar.update) as path,
    ):
        found = diagnose(
            path,
            with_model=model is not None,
            n_threads=given["n_threads"],
            kv_dtype=given["kv_dtype"],
            weight_format=given["weight_format"],
            packed_cache=not given["no_cache"],
            progress=bar.update,
        )
    if given["as_json"]:
        import json

        write(json.dumps(found) + "\n")
    else:
        write(_report(found))
    return 1 if any(test["failing"] for test in found["self_test"]) else 0


def _report(found: Mapping[str, Any]) -> str:
    import shutil

    from ..text_table import WIDTH, fields

    width = min(WIDTH, shutil.get_terminal_size().columns)
    sections = {
        "machine": _machine(found),
        "threads": dict(_threads(found["threads"], found["openmp"])),
        "memory": dict(_memory(found)),
        "self-test": dict(_self_test(found["self_test"])),
        "limits": dict(_limits(found["limits"], found["load"])),
    }
    if found["model"] is not None:
        sections["model"] = dict(_model(found["model"], found["cpu"]["cache_bytes"]))
    text = "".join(
        f"{title}\n{fields(facts, 15, indent=2, width=width)}\n"
        for title, facts in sections.items()
    )
    if not found["advice"]:
        return text + "Nothing to mend.\n"
    text += "what could be better\n"
    for number, advice in enumerate(found["advice"], 1):
        text += fields({f"{number}.": advice["problem"]}, 2, indent=2, width=width)
        text += fields({"": advice["remedy"]}, 4, indent=2, width=width)
    return text


def _machine(found: Mapping[str, Any]) -> dict[str, str]:
    cpu = found["cpu"]
    return {
        "CPU": cpu["name"],
        "features": ", ".join(cpu["features"]) or "none",
        "tier": f"{cpu['tier']}: {cpu['reason']}",
        "system": cpu["os"],
        "version": f"{cpu['version']}, Python {cpu['python']}",
    }


def _threads(threads: Mapping[str, Any], openmp: list[str] | None) -> Iterator[tuple[str, str]]:
    quota = threads["quota"]
    yield "count", f"{threads['count']}: {threads['reason']}"
    yield "allowed CPUs", str(threads["affinity"])
    yield "physical cores", str(threads["physical_cores"])
    yield "group quota", "none" if quota is None else f"{quota:.2f} CPUs"
    if threads["environment"]:
        yield "variables", ", ".join(f"{k}={v}" for k, v in threads["environment"].items())
    if openmp is not None:
        yield "OpenMP", ", ".join(openmp) or "linked statically"


def _memory(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    from ..text_table import format_bytes, plural

    limit, pages, cache = found["memory"], found["huge_pages"], found["cache"]
    if limit is not None:
        swap = f", and {format_bytes(limit['swap'])} of swap" if limit["swap"] else ""
        yield "limit", f"{format_bytes(limit['nbytes'])}{swap} ({limit['source']})"
    if pages is not None:
        used = "" if pages["in_use"] is None else f"; {format_bytes(pages['in_use'])} in use now"
        yield "huge pages", f"{pages['mode']}{used}"
    if cache is None:
        yield "packed cache", "off"
        return
    count = sum(cache["files"].values())
    states = ", ".join(f"{number} {state}" for state, number in cache["files"].items())
    free = "" if cache["free"] is None else f"; {format_bytes(cache['free'])} free"
    what = f"{plural(count, 'file')}, {format_bytes(cache['nbytes'])} ({states})"
    yield "packed cache", f"{cache['directory']}: {what if count else 'empty'}{free}"


def _self_test(tests: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for test in tests:
        if test["failing"]:
            yield test["tier"], f"WRONG RESULTS: {', '.join(test['failing'])}"
        elif test["tier"] == "scalar":
            yield "scalar", "portable C, which the others are compared with"
        else:
            milliseconds = f"{1000 * test['seconds']:.0f} ms"
            yield test["tier"], f"equal bits in {test['kernels']} uses of kernels ({milliseconds})"


def _limits(limits: Mapping[str, Any], load: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    from ..text_table import plural

    for row in limits["by_threads"]:
        read, multiplied = _spread(row["read"], 1e9), _spread(row["multiply"], 1e9)
        what = f"reads {read} GB/s, multiplies {multiplied} billion int8 pairs a second"
        yield plural(row["threads"], "thread"), what
    yield "figures", f"median (lowest to highest) of {limits['rounds']} rounds"
    if load["other_cpus"] is not None:
        stolen = load["stolen_cpus"]
        taken = f", the hypervisor took {stolen:.1f}" if stolen >= 0.05 else ""
        yield "meanwhile", f"other processes used {load['other_cpus']:.1f} CPUs{taken}"


def _model(model: Mapping[str, Any], cache_bytes: int | None) -> Iterator[tuple[str, str]]:
    from ..text_table import format_bytes, number, plural

    yield "path", model["path"]
    yield "kind", f"{model['family']}, {_count(model['parameters'])} parameters"
    yield "threads", f"{model['threads']}: {model['threads_reason']}"
    kept = f"mapped from {model['packed_file']}" if model["packed_file"] else "packed at each start"
    yield "weights", f"{format_bytes(model['weight_bytes'])} as {model['weight_format']}, {kept}"
    yield "opened in", f"{model['load_seconds']:.2f} s"
    if model["decode"] is None:
        yield "speed", "not measured: it embeds texts, or its context is too short"
        return
    decode, prompt = model["decode"], model["prompt"]
    read = format_bytes(decode["bytes_per_token"])
    note = ""
    if cache_bytes is not None and model["weight_bytes"] < cache_bytes:
        note = "; its weights fit the CPU's caches, so memory is not what limits it"
    yield "decoding", _reached(decode, f"if it reads {read} for each") + note
    million = number(prompt["multiply_adds_per_token"] / 1e6)
    yield "prompts", _reached(prompt, f"if it multiplies {million} million pairs for each")
    rounds = f"{plural(model['rounds'], 'round')}, each with limits of its own"
    what = f"texts of {prompt['tokens']} tokens; median (lowest to highest) of {rounds}"
    yield "figures", what


def _reached(figures: Mapping[str, Any], why: str) -> str:
    from ..text_table import number

    limit, share = figures["limit"]["median"], figures["share"]["median"]
    return (
        f"{_spread(figures['rate'])} tokens/s, {share:.0%} of the {number(limit)} that this "
        f"machine allows {why}"
    )


def _count(number: int) -> str:
    return f"{number / 1e9:.2f} billion" if number >= 1e9 else f"{number / 1e6:.3g} million"


def _spread(spread: Mapping[str, float], unit: float = 1.0) -> str:
    from ..text_table import number

    median, low, high = (number(spread[key] / unit) for key in ("median", "low", "high"))
    return f"{median} ({low} to {high})"
