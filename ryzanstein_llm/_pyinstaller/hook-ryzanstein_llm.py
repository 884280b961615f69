"""What PyInstaller cannot see in the sources: model families and names of the package are imported
when they are first used, some compiled modules are imported by compiled ones only, and the demo
model is data."""

from __future__ import annotations

from PyInstaller.utils.hooks import collect_data_files, collect_submodules

# Applications that need one of these import it, and PyInstaller sees that. The others would get
# lm-eval and PyTorch with them, or a warning that lm-eval is missing.
LEFT_OUT = tuple(
    f"ryzanstein_llm.{name}." for name in ("__main__", "_pyinstaller", "cli", "integrations")
)


def needed(module: str) -> bool:
    """Whether any application may need it."""
    return not f"{module}.".startswith(LEFT_OUT)


hiddenimports = collect_submodules("ryzanstein_llm", filter=needed)
datas = collect_data_files("ryzanstein_llm", includes=["demo/*"])  # codespell:ignore datas
