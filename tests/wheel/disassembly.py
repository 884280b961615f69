"""What instructions a compiled module holds, and which CPUs have them.

The assembler judges: it knows for each instruction what extension it belongs to, and
refuses it under an `-march` without that extension.
"""

from __future__ import annotations

import re
import subprocess
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

# No operation on CPUs that do not know them: CET's landing pads and prefixes, long no-ops.
_IGNORED_PREFIXES = re.compile(r"^(?:(?:bnd|notrack|data16)\s+)+")
_LANDING_PADS = {"endbr64", "endbr32"}
_BRANCH = re.compile(r"^((?:j\w+|call\w*)(?:,p[nt])?\s+)[0-9a-f]+(?= <)")


def instructions(module: Path) -> dict[int, str]:
    """Address and text (AT&T syntax, fit for an assembler) of every instruction."""
    found = {}
    for line in _run("objdump", "-d", "--no-show-raw-insn", str(module)).splitlines():
        match = re.match(r"\s+([0-9a-f]+):\t(.+)", line)
        if not match:
            continue
        text = _IGNORED_PREFIXES.sub("", match[2])
        text = _BRANCH.sub(r"\g<1>0x0", text)
        text = re.sub(r"\s*(<[^>]*>|#.*)", "", text).strip()
        if text and text not in _LANDING_PADS:
            found[int(match[1], 16)] = text
    assert found, f"nothing to disassemble in {module.name}"
    return found


def code_by_source(module: Path) -> dict[str, list[range]]:
    """Addresses of the static functions, by the name of the source file they were compiled from.

    In ELF's symbol table a file's local symbols follow the symbol of the file, so a function
    belongs to a file whatever its name is, the compiler's own pieces (`name.part.0`) included.
    Functions with external linkage stand after all of them, and belong to none.
    """
    found: dict[str, list[range]] = defaultdict(list)
    source = ""
    for line in _run("objdump", "-t", str(module)).splitlines():
        match = re.match(r"([0-9a-f]{16}) (.{7}) (\S+)\s+([0-9a-f]{16})\s*(.*)", line)
        if not match:
            continue
        value, flags, section, size, name = match.groups()
        if "f" in flags:
            source = name
        elif "F" in flags and flags[0] == "l" and section != "*UND*":
            found[source].append(range(int(value, 16), int(value, 16) + int(size, 16)))
    return found


def refused(texts: Iterable[str], architecture: str) -> list[str]:
    """Instructions that are not part of `architecture`, a value of the assembler's `-march`."""
    lines = sorted(set(texts))
    result = subprocess.run(
        ["as", f"-march={architecture}", "-o", "/dev/null", "-"],
        input="".join(f"{line}\n" for line in lines),
        capture_output=True,
        text=True,
    )
    numbers = {int(number) for number in re.findall(r":(\d+): Error:", result.stderr)}
    assert bool(numbers) == (result.returncode != 0), result.stderr
    return [lines[number - 1] for number in sorted(numbers)]


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
