"""A hub on this machine, an empty cache, and a library that uses both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from extras import needs_extra
from hub_server import Hub, running_hub

from ryzanstein_llm.hub import transfer


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """The hub of the user, with the cache `tmp_path / "cache"`. Nothing leaves this machine."""
    constants = needs_extra("hub", "huggingface_hub", "huggingface_hub.constants")
    with running_hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        template = f"{hub.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        # old versions have a copy of it
        library = needs_extra("hub", "huggingface_hub.file_download")
        monkeypatch.setattr(library, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(transfer, "PAUSE", 0.0)
        yield hub


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"
