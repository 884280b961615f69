"""Markdown of the comparison with other engines, all of it from one run: `peers.json`."""

from __future__ import annotations

from collections.abc import Mapping

from ryzanstein_llm.testing import PRESETS, preset_config
from ryzanstein_llm.text_table import number, plural

from .markdown import markdown, times
from .results import Found, Results

__all__ = ["PEER_TABLES"]

TITLES = {"decode": "decoding after {} tokens", "prefill": "prompt of {} tokens"}


def summary(results: Results) -> str:
    """The few figures that people ask for first."""
    if results.peers is None:
        return ""
    lines = []
    for (case, threads), row in _by_case(results.peers).items():
        ours, *others = row.values()
        title = TITLES[ours["kind"]].format(case.rpartition(" ")[2])
        ahead = [f"{times(found['ahead']['median'])} as fast" for found in others]
        rate = number(ours["rate"]["median"])
        lines.append([f"{title}, {plural(threads, 'thread')}", rate, *ahead])
    name, *names = results.peers["engines"]
    return markdown([name, "tokens/s", *(f"compared with {other}" for other in names)], lines)


def peers_run(results: Results) -> str:
    """One sentence: when, on what and with which versions that was measured."""
    if results.peers is None:
        return ""
    card, model, options = (results.peers[name] for name in ("machine", "model", "options"))
    day = f" on {results.peers['date']}" if "date" in results.peers else ""
    versions = dict.fromkeys(map(_versions, results.peers["engines"].values()))
    return (
        f"Measured{day} on {plural(card['cores_allowed'], 'core')} ({card['cpu']}) with "
        f"{_shapes(model)}, all engines in turns on the same weights: {'; '.join(versions)}; "
        f"medians of {options['rounds']} rounds, ratios taken within each round."
    )


def peers(results: Results) -> str:
    """Everything that was measured of other engines, and how they were built."""
    if results.peers is None:
        return ""
    lines = []
    for (case, threads), row in _by_case(results.peers).items():
        cells = []
        for found in row.values():
            rate, ahead = found["rate"], found["ahead"]
            text = f"{number(rate['median'])} ({number(rate['low'])}…{number(rate['high'])})"
            if ahead is not None:
                text += f", {ahead['low']:.2f}…{times(ahead['high'])}"
            cells.append(text)
        cosines = [found["cosine"] for found in row.values() if found["cosine"] is not None]
        least = f"{min(cosines):.4f}" if cosines else ""
        lines.append([case, str(threads), *cells, least])
    header = ["case", "threads", *results.peers["engines"], "cosine of logits"]
    built: dict[str, list[str]] = {}
    for name, about in results.peers["engines"].items():
        how = about["build"].replace(" = 1 |", ",").strip(" ,")
        built.setdefault(how, []).append(f"{name} ({about['model'].rpartition(', ')[2]})")
    builds = [f"- {', '.join(names)}: {how}" for how, names in built.items()]
    return markdown(header, lines) + "\n\n" + "\n".join(builds)


def _by_case(report: Found) -> dict[tuple[str, int], dict[str, Found]]:
    """Rows by case and number of threads, then by engine; this library is the first."""
    found: dict[tuple[str, int], dict[str, Found]] = {}
    for row in report["rows"]:
        found.setdefault((row["case"], row["threads"]), {})[row["engine"]] = row
    return found


def _versions(about: Found) -> str:
    found = {name: str(version) for name, version in about["versions"].items()}
    commit = found.pop("commit", "")
    inner = [f"commit {commit[:7]}"] if commit else []
    if "tier" in about.get("options", {}):
        inner.append(f"tier {about['options']['tier']}")
    text = ", ".join(f"{name} {version}" for name, version in found.items())
    return f"{text} ({', '.join(inner)})" if inner else text


def _shapes(model: Mapping[str, object]) -> str:
    """The preset whose shapes the model has; or its name."""
    shapes = {key: value for key, value in model.items() if key != "name"}
    for name in PRESETS:
        if shapes and shapes.items() <= preset_config(name).items():
            return f"the shapes of {name}"
    return f"the model {model['name']}"


PEER_TABLES = {table.__name__: table for table in (summary, peers_run, peers)}
