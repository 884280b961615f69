"""Extensions of the wheel: baseline flags, OpenMP, and which tiers the compiler can build; and
the page that a package index shows.

One build serves every x86-64 CPU: no -march beyond the baseline and no fast-math, ever;
the instruction-set regions under include/ choose their own target.

Environment: FORCE_SCALAR=1 builds only the portable tier. CFLAGS=-g keeps debugging information,
which doubles the wheel. RYZANSTEIN_INSTRUMENT=address builds modules that check addresses and
arithmetic while they run (see SECURITY.md), RYZANSTEIN_INSTRUMENT=coverage modules that count which
lines and branches run (see CONTRIBUTING.md); both need GCC. RYZANSTEIN_REPOSITORY is the public
address of the repository: links of README.md lead there.
"""

import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

KERNELS = "ryzanstein_llm/kernels"
TIERS = ("avx2", "avxvnni", "avx512vnni", "amx")
EMULATIONS = ("amx_avx512", "amx_portable")
REPOSITORY = os.environ.get("RYZANSTEIN_REPOSITORY", "").rstrip("/")
X86_64 = platform.machine().lower() in ("x86_64", "amd64")

GNU_FLAGS = [
    "-O3",
    "-std=gnu11",
    "-fno-fast-math",  # these come after CFLAGS: whatever is set there, the bits stay
    "-ffp-contract=off",  # a fused multiply-add would change bits between tiers
    "-fno-math-errno",
    "-fno-trapping-math",  # lets conditional code vectorise; exceptions stay masked, bits the same
    "-fno-strict-aliasing",
    "-Wno-psabi",
    "-Werror=implicit-function-declaration",
]
MSVC_FLAGS = ["/O2", "/fp:precise", "/std:c11"]

# What RYZANSTEIN_INSTRUMENT asks for.
#
# address: undefined behaviour ends the process as a wrong address does. Sums that overflow are
# undefined, although Python's own flags define them (-fwrapv). Reports name files and lines. The
# sanitizer's library has to be loaded before Python: `.ci/sanitize` does that.
#
# coverage: GCC counts lines and branches of the C sources, exactly although threads share the
# counters; Cython tells coverage.py which lines of .pyx files run (CYTHON_TRACE_NOGIL below).
INSTRUMENTS = {
    "": [],
    "address": [
        "-fsanitize=address,undefined,float-cast-overflow",
        "-fno-sanitize-recover=undefined,float-cast-overflow", "-fno-wrapv",
        "-fno-omit-frame-pointer", "-g1",
    ],
    "coverage": ["--coverage", "-fprofile-update=atomic"],
}  # fmt: skip
INSTRUMENT = os.environ.get("RYZANSTEIN_INSTRUMENT", "")


class BuildKernels(build_ext):
    """build_ext that asks the compiler which tiers it can build."""

    def build_extensions(self) -> None:
        msvc = self.compiler.compiler_type == "msvc"
        flags = list(MSVC_FLAGS if msvc else GNU_FLAGS)
        instrument = self._instrument(msvc)
        if not msvc and "-g" not in os.environ.get("CFLAGS", "").split():
            flags.append("-g0")  # Python's own flags ask for it
        flags += instrument
        if X86_64 and not msvc:
            flags += ["-march=x86-64", "-mtune=generic"]
        macros = [("FORCE_SCALAR", "1")] if os.environ.get("FORCE_SCALAR", "0") != "0" else []
        if X86_64 and not macros:
            macros = [
                (f"RZ_HAVE_{tier.upper()}", "1") for tier in TIERS if self._compiles(tier, flags)
            ]
        if INSTRUMENT == "coverage":
            macros.append(("CYTHON_TRACE_NOGIL", "1"))
        openmp_compile, openmp_link = self._openmp(msvc)
        for extension in self.extensions:
            extension.extra_compile_args = flags + openmp_compile
            extension.extra_link_args = openmp_link + instrument
            extension.define_macros += macros
        stamp = Path("build", f"tiers-{sys.implementation.cache_tag}-{bool(self.inplace)}.txt")
        tiers = " ".join([*(name for name, _ in macros), *instrument])
        before = stamp.read_text() if stamp.is_file() else None
        # otherwise modules that are newer than their sources stay, whatever tiers they have
        if before != tiers and (before is not None or instrument or "FORCE_SCALAR" in tiers):
            self.force = True
        super().build_extensions()
        stamp.parent.mkdir(exist_ok=True)
        stamp.write_text(tiers)

    def _compiles(self, tier: str, flags: list[str]) -> bool:
        """Whether the real intrinsics compile; macros do not tell (MSVC defines none)."""
        probe = f"include/ryzanstein/probes/{tier}.c"
        with tempfile.TemporaryDirectory() as folder:
            try:
                self.compiler.compile(
                    [probe], folder, include_dirs=["include"], extra_postargs=flags
                )
            except Exception as error:
                sys.stderr.write(f"setup.py: no {tier} tier with this compiler ({error})\n")
                return False
        return True

    @staticmethod
    def _instrument(msvc: bool) -> list[str]:
        if INSTRUMENT not in INSTRUMENTS or (INSTRUMENT and msvc):
            sys.exit(
                f"setup.py: RYZANSTEIN_INSTRUMENT={INSTRUMENT}: only address or coverage, with GCC"
            )
        return INSTRUMENTS[INSTRUMENT]

    @staticmethod
    def _openmp(msvc: bool) -> tuple[list[str], list[str]]:
        if msvc:
            return ["/openmp"], []
        if sys.platform == "darwin":  # Apple clang needs libomp from Homebrew; not run here
            prefix = subprocess.run(
                ["brew", "--prefix", "libomp"], capture_output=True, text=True, check=False
            ).stdout.strip()
            return (
                ["-Xpreprocessor", "-fopenmp", f"-I{prefix}/include"],
                [f"-L{prefix}/lib", "-lomp"],
            )
        return ["-fopenmp"], ["-fopenmp"]


def extension(name: str, *c_sources: str) -> Extension:
    headers = [str(path) for path in sorted(Path("include").rglob("*.h"))]
    return Extension(
        f"ryzanstein_llm.kernels.{name}",
        [f"{KERNELS}/{name}.pyx", *c_sources],
        include_dirs=["include"],
        depends=[*headers, f"{KERNELS}/cpu.pxd"],
    )


def page() -> str:
    """README.md for a package index, where relative links lead nowhere: absolute ones if the
    address of the repository is known, else their text alone."""

    def absolute(link: re.Match[str]) -> str:
        picture, text, target = link.groups()
        if not REPOSITORY:
            return "" if picture else text
        return f"{picture}[{text}]({REPOSITORY}/{'raw' if picture else 'blob'}/HEAD/{target})"

    readme = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
    return re.sub(r"(!?)\[([^\]]+)\]\((?!https?:|#)([^)\s]+)\)", absolute, readme)


setup(
    long_description=page(),
    long_description_content_type="text/markdown",
    project_urls=(
        {
            "Source": REPOSITORY,
            "Documentation": f"{REPOSITORY}/blob/HEAD/API.md",
            "Changelog": f"{REPOSITORY}/blob/HEAD/CHANGELOG.md",
            "Issues": f"{REPOSITORY}/issues",
        }
        if REPOSITORY
        else {}
    ),
    ext_modules=cythonize(
        [
            extension(
                "cpu",
                f"{KERNELS}/dispatch.c",
                *(f"{KERNELS}/tiers/{tier}.c" for tier in ("scalar", *TIERS)),
                *(f"{KERNELS}/emulations/{name}.c" for name in EMULATIONS),
            ),
            extension("threads"),
            extension("sources"),
            extension("packing"),
            extension("workspace"),
            extension("steps"),
            extension("ternary_matrix"),
            extension("inputs"),
            extension("linear"),
            extension("skipping"),
            extension("attention"),
            extension("block_ends"),
            extension("decoder_layer"),
            extension("decoder"),
            extension("head_rows"),
            extension("head"),
            extension("head_rest"),
            extension("elementwise"),
            extension("limits"),
            extension("self_test_ternary"),
            extension("self_test"),
        ],
        compiler_directives={"language_level": "3", "linetrace": INSTRUMENT == "coverage"},
        force=INSTRUMENT == "coverage",  # C files that an earlier build left do not trace
    ),
    cmdclass={"build_ext": BuildKernels},
)
