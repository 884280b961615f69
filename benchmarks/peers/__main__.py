"""`python -m benchmarks.peers compare ...` and `python -m benchmarks.peers write-gguf ...`"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from ryzanstein_llm.bench.machine import machine_card
from ryzanstein_llm.cli.progress import ProgressBar
from ryzanstein_llm.errors import RyzansteinError
from ryzanstein_llm.formats import open_checkpoint
from ryzanstein_llm.models.gguf_names import translate
from ryzanstein_llm.testing import PRESETS

from .compare import Case, Peer, measure
from .engine import Engine
from .files import prepare_files
from .gguf_file import EMBEDDING_TYPES, TERNARY_TYPES, write_gguf
from .report import Report

__all__ = ["main"]

SHAPES = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "vocab_size", "hidden_act",
)  # fmt: skip
SEED = 0

Update = Callable[[int, int, str], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        with contextlib.closing(ProgressBar(sys.stderr)) as bar:
            text: str = options.run(options, bar.update)
    except (RyzansteinError, OSError, ImportError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(text)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    compare = commands.add_parser(
        "compare",
        help="measure other engines on the same weights, in turns",
        description="Measure this library, llama.cpp and, if asked, transformers on the same "
        "weights, in turns, each in a process of its own. Exit code 1, and no figures, if an "
        "output is wrong.",
    )
    source = compare.add_mutually_exclusive_group()
    source.add_argument("--checkpoint", type=Path, metavar="DIR", help="packed BitNet weights")
    source.add_argument(
        "--preset", choices=PRESETS, default="bitnet-b1.58-2B-4T", help="or random ones"
    )
    source.add_argument(
        "--gguf", type=Path, metavar="FILE", help="or this file, which both engines open"
    )
    compare.add_argument(
        "--directory",
        type=Path,
        metavar="DIR",
        help="keep the files made here, and use those that are there (default: a temporary one)",
    )
    compare.add_argument(
        "--llama-python",
        default=sys.executable,
        type=os.path.abspath,  # of a virtual environment's link itself, not of where it leads
        metavar="PATH",
        help="an interpreter that has llama-cpp-python (default: this one)",
    )
    compare.add_argument(
        "--ternary", nargs="*", choices=TERNARY_TYPES, default=list(TERNARY_TYPES),
        help="weight types to give llama.cpp; none leaves it out",
    )  # fmt: skip
    compare.add_argument("--embedding", choices=EMBEDDING_TYPES, default="Q6_K")
    compare.add_argument(
        "--transformers", action="store_true", help="one round of transformers, too"
    )
    several = (
        ("--threads", [1, 2], "numbers of threads"),
        ("--prefill", [128, 512], "lengths of prompts"),
        ("--contexts", [16], "positions in the cache when decoding begins"),
    )
    for name, default, text in several:
        compare.add_argument(name, type=_count, nargs="+", default=default, metavar="N", help=text)
    compare.add_argument("--tokens", type=_count, default=32, metavar="N", help="decoded, timed")
    compare.add_argument("--rounds", type=_count, default=5, metavar="N")
    compare.add_argument("--json", type=Path, metavar="FILE", help="write everything here, too")
    compare.set_defaults(run=_compare)

    write = commands.add_parser("write-gguf", help="write a checkpoint as a GGUF file")
    write.add_argument("checkpoint", type=Path)
    write.add_argument("target", type=Path)
    write.add_argument("--ternary", choices=TERNARY_TYPES, default="TQ2_0")
    write.add_argument("--embedding", choices=EMBEDDING_TYPES, default="Q6_K")
    write.set_defaults(run=_write)
    return parser


def _count(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 1 << 20:
        raise argparse.ArgumentTypeError(f"{value} is not 1..{1 << 20}")
    return value


def _write(options: argparse.Namespace, update: Update) -> str:
    path = write_gguf(
        options.checkpoint,
        options.target,
        ternary=options.ternary,
        embedding=options.embedding,
        progress=lambda done, total: update(done, total, "writing tensors"),
    )
    return f"{path}\n"


def _compare(options: argparse.Namespace, update: Update) -> str:
    with contextlib.ExitStack() as stack:
        start = _start_gguf if options.gguf is not None else _start_checkpoint
        path, peers = start(options, stack, update)
        comparison = measure(
            peers, _cases(options, peers[0]), options.threads, options.rounds, update
        )
        with open_checkpoint(path) as opened:
            config = translate(opened).config
            shapes = {key: config[key] for key in SHAPES}
        report = Report(
            datetime.date.today().isoformat(),
            machine_card(),
            {"name": path.name, **shapes},
            {
                name: getattr(options, name)
                for name in ("threads", "prefill", "contexts", "tokens", "rounds", "embedding")
            },
            {peer.engine.name: peer.engine.about for peer in peers},
            comparison,
        )
    if options.json is not None:
        options.json.write_text(json.dumps(report.to_dict(), indent=1) + "\n", encoding="utf-8")
    return report.text()


def _start_gguf(
    options: argparse.Namespace, stack: contextlib.ExitStack, update: Update
) -> tuple[Path, list[Peer]]:
    """Both engines with the same file."""
    path = options.gguf.resolve()
    ours = _ours(stack, "ryzanstein_llm", path)
    theirs = _llama(options, stack, "llama.cpp", path)
    return path, [Peer(ours, None), Peer(theirs, ours)]


def _start_checkpoint(
    options: argparse.Namespace, stack: contextlib.ExitStack, update: Update
) -> tuple[Path, list[Peer]]:
    """The library with a checkpoint, and the others with files made of its weights."""
    directory = options.directory
    if directory is None:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    files = prepare_files(
        directory.resolve(),
        None if options.checkpoint is None else options.checkpoint.resolve(),
        options.preset,
        options.ternary,
        options.embedding,
        update,
    )
    peers = [Peer(_ours(stack, "ryzanstein_llm", files.checkpoint), None)]
    if files.gguf:
        reference = _ours(stack, "ryzanstein_llm with SiLU", files.silu)
        for kind, path in files.gguf.items():
            peers.append(Peer(_llama(options, stack, f"llama.cpp {kind}", path), reference))
    if options.transformers:
        found = _engine(
            stack, "transformers bf16", sys.executable, "transformers_worker", files.checkpoint
        )
        peers.append(Peer(found, peers[0].engine, rounds=1))
    return files.checkpoint, peers


def _engine(
    stack: contextlib.ExitStack, name: str, python: str, module: str, *arguments: object
) -> Engine:
    command = [python, "-m", f"{__package__}.{module}", *map(str, arguments)]
    return stack.enter_context(Engine(name, command))


def _ours(stack: contextlib.ExitStack, name: str, path: Path) -> Engine:
    return _engine(stack, name, sys.executable, "ryzanstein_worker", path)


def _llama(
    options: argparse.Namespace, stack: contextlib.ExitStack, name: str, path: Path
) -> Engine:
    longest = max(*options.prefill, max(options.contexts) + options.tokens + 2)
    length = ("--context-length", -(-longest // 256) * 256)
    return _engine(stack, name, options.llama_python, "llama_worker", path, *length)


def _cases(options: argparse.Namespace, ours: Peer) -> list[Case]:
    """The same random ids for every engine; a shorter prompt is the beginning of a longer one."""
    from numpy.random import default_rng

    longest = max(*options.prefill, max(options.contexts) + 1)
    ids: list[int] = default_rng(SEED).integers(ours.engine.vocab_size, size=longest).tolist()
    decodes = [Case("decode", tuple(ids[: n + 1]), options.tokens) for n in options.contexts]
    return [*decodes, *(Case("prefill", tuple(ids[:n]), n) for n in options.prefill)]


if __name__ == "__main__":
    sys.exit(main())
