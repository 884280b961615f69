"""What PyInstaller cannot see in the sources: model families and names of the package are imported
when they are first used, some compiled modules are imported by compiled ones only, and the demo
model is data."""

from __future__ import annotations

from PyInstaller.utils.hooks import collect_data_files, collect_submodules

hiddenimports = collect_submodules("ryzanstein_llm")
datas = collect_data_files("ryzanstein_llm", includes=["demo/*"])  # codespell:ignore datas
