"""What a form costs, or spares: time of a token of texts with a form, against greedy free text.

    python -m benchmarks.structured --model big --threads 1

Free text and the forms are generated in turns. Each text is checked: JSON is parsed and looked at,
and it has to be the same in every round.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from statistics import median
from typing import Any

from ryzanstein_llm import BitNetModel, GenerationResult
from ryzanstein_llm.kernels import cpu
from ryzanstein_llm.text_table import Table, as_text

PROMPT = "A person:"

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "married": {"type": "boolean"},
        "colour": {"enum": ["red", "green", "blue"]},
        "address": {
            "type": "object",
            "properties": {
                "street": {"type": "string", "maxLength": 12},
                "postcode": {"type": "string", "pattern": "^[0-9]{5}$"},
            },
            "required": ["street", "postcode"],
            "additionalProperties": False,
        },
    },
    "required": ["name", "age", "married", "colour", "address"],
    "additionalProperties": False,
}
TEXT = {"type": "string", "minLength": 60, "maxLength": 90}

FORMS: dict[str, tuple[dict[str, Any], Callable[[str], bool]]] = {
    "free text": ({"ignore_eos": True, "max_tokens": 60, "prompt_lookup_num_tokens": 0}, bool),
    "an object": ({"schema": PERSON}, lambda text: list(json.loads(text)) == PERSON["required"]),
    "one long string": ({"schema": TEXT}, lambda text: 60 <= len(json.loads(text)) <= 90),
    "digits": ({"regex": "[0-9]{30}"}, lambda text: bool(re.fullmatch("[0-9]{30}", text))),
}
"""The options of `generate`, and whether a text is right."""


def seconds_of_a_token(result: GenerationResult) -> float:
    """After the first that was chosen; forced tokens count."""
    return sum(result.timings.decode) / len(result.timings.decode)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", metavar="PATH", help="checkpoint (default: the demo model)")
    parser.add_argument("--threads", type=int, metavar="N")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    arguments = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in FORMS}
    masks: dict[str, list[float]] = {name: [] for name in FORMS}
    texts: dict[str, GenerationResult] = {}
    with BitNetModel(arguments.model, n_threads=arguments.threads) as model:
        for turn in range(arguments.rounds + 1):  # the first warms up
            for name, (options, is_right) in FORMS.items():
                result = model.generate(PROMPT, return_result=True, **options)
                if not is_right(result.text or ""):
                    parser.exit(1, f"{name}: this text is wrong: {result.text!r}\n")
                if result.ids != texts.setdefault(name, result).ids:
                    parser.exit(1, f"{name}: the text was another one before: {result.text!r}\n")
                if turn:
                    seconds[name].append(seconds_of_a_token(result))
                    masks[name].append(result.timings.masks / len(result.ids))
        about = f"{model!r}, {cpu.current_tier()}"
    free = seconds["free text"]
    lines = [["", "tokens", "forced", "ms a token", "of it masks", "times as fast"]]
    for name, times in seconds.items():
        result = texts[name]
        faster = median(one / other for one, other in zip(free, times, strict=True))
        lines.append(
            [
                name, str(len(result.ids)), str(result.forced_tokens), f"{1e3 * median(times):.2f}",
                f"{1e3 * median(masks[name]):.3f}", f"{faster:.2f}",
            ]
        )  # fmt: skip
    sys.stdout.write(as_text([about, Table("", lines)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
