"""The cache is that of huggingface_hub: what one has downloaded, the other finds."""

from __future__ import annotations

import logging
import os
import shutil

import pytest
from extras import needs_extra
from files import NAME, demo_files, noise, sharded_files, tree

from ryzanstein_llm.errors import (
    HubAccessError,
    HubConnectionError,
    HubNotFoundError,
    HubRateLimitError,
)
from ryzanstein_llm.hub import Repository
from ryzanstein_llm.hub.download import download


def fetch(text=NAME, revision=None, **options):
    return download(Repository.parse(text, revision), **options)


@pytest.fixture
def snapshot_download(hub):
    """That of huggingface_hub, from the same hub. Each call gets its cache."""
    library = needs_extra("hub", "huggingface_hub")

    def call(cache, files, **options):
        return library.snapshot_download(
            NAME, cache_dir=cache, endpoint=hub.endpoint, allow_patterns=list(files), **options
        )

    return call


WANTED = [
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "model.safetensors",
]  # fmt: skip


def without_markers(found):
    """huggingface_hub marks only absent files that it was asked for one by one."""
    return {name: what for name, what in found.items() if "/.no_exist/" not in name}


@pytest.mark.parametrize("revision", [None, "v1", "refs/pr/3"])
def test_both_leave_the_same_tree(hub, cache, snapshot_download, tmp_path, revision):
    hub.add(NAME, demo_files(), revision or "main")
    ours, theirs = fetch(revision=revision), tmp_path / "theirs"
    path = snapshot_download(theirs, WANTED, revision=revision)
    assert without_markers(tree(cache)) == tree(theirs)
    assert ours.relative_to(cache).as_posix() == os.path.relpath(path, theirs)


def test_shards_in_both(hub, cache, snapshot_download, tmp_path):
    files = sharded_files()
    hub.add(NAME, files)
    fetch()
    snapshot_download(tmp_path / "theirs", [name for name in files if "00003" not in name])
    assert without_markers(tree(cache)) == tree(tmp_path / "theirs")


def test_files_in_folders_in_both(hub, cache, snapshot_download, tmp_path):
    hub.add(NAME, {"a/b/m.gguf": noise(20_000)})
    fetch()
    snapshot_download(tmp_path / "theirs", ["a/b/m.gguf"])
    assert without_markers(tree(cache)) == tree(tmp_path / "theirs")


def test_what_huggingface_hub_has_downloaded_is_used(hub, cache, snapshot_download):
    hub.add(NAME, demo_files())
    snapshot_download(cache, WANTED)
    hub.requests.clear()
    assert (fetch() / "model.safetensors").read_bytes() == demo_files()["model.safetensors"]
    assert [request.kind for request in hub.requests] == ["api"]
    assert fetch(offline=True) == fetch()


def test_huggingface_hub_uses_what_we_have_downloaded(hub, cache, snapshot_download):
    hub.add(NAME, demo_files())
    path = fetch()
    before = tree(cache)
    hub.requests.clear()
    assert os.path.samefile(snapshot_download(cache, WANTED), path)
    assert not hub.asked("resolve")
    assert not hub.asked("cdn")
    assert tree(cache) == before
    library = needs_extra("hub", "huggingface_hub")
    absent = library.try_to_load_from_cache(NAME, "chat_template.jinja", cache_dir=cache)
    assert absent is library._CACHED_NO_EXIST
    assert library.try_to_load_from_cache(NAME, "config.json", cache_dir=cache)
    assert os.path.samefile(snapshot_download(cache, WANTED, local_files_only=True), path)


def test_a_part_of_what_huggingface_hub_has_downloaded(hub, cache, snapshot_download):
    hub.add(NAME, demo_files())
    snapshot_download(cache, ["config.json", "tokenizer.json"])
    hub.requests.clear()
    fetch()
    asked = {request.file for request in hub.asked("resolve")}
    assert asked == set(WANTED) - {"config.json", "tokenizer.json"}


class TestWithoutLinks:
    """On file systems that have no symbolic links."""

    @pytest.fixture(autouse=True)
    def no_links(self, monkeypatch):
        def refuse(*_args, **_options):
            raise OSError(1, "no symbolic links here")

        monkeypatch.setattr(os, "symlink", refuse)

    def test_a_file_itself_has_the_name(self, hub, cache):
        hub.add(NAME, demo_files())
        path = fetch()
        assert not any(file.is_symlink() for file in path.iterdir())
        assert (path / "config.json").read_bytes() == demo_files()["config.json"]
        assert not list((cache / "models--org--name" / "blobs").iterdir())
        hub.requests.clear()
        assert fetch() == path
        assert not hub.asked("resolve")

    def test_both_leave_the_same_tree(self, hub, cache, snapshot_download, tmp_path, monkeypatch):
        needs_extra("hub", "huggingface_hub.constants")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_SYMLINKS_WARNING", True)
        hub.add(NAME, demo_files())
        fetch()
        snapshot_download(tmp_path / "theirs", WANTED)
        assert without_markers(tree(cache)) == tree(tmp_path / "theirs")

    def test_a_content_that_is_there_is_copied(self, hub, cache):
        hub.add(NAME, {"m.gguf": noise(20_000)})
        path = fetch()
        blob = cache / "models--org--name" / "blobs"
        content = path.read_bytes()
        path.rename(blob / noise_checksum())
        assert fetch().read_bytes() == content
        assert (blob / noise_checksum()).is_file()


def noise_checksum():
    import hashlib

    return hashlib.sha256(noise(20_000)).hexdigest()


class TestOffline:
    @pytest.fixture(params=["argument", "environment"])
    def options(self, request, monkeypatch, hub):
        if request.param == "argument":
            return {"offline": True}
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        return {}

    def test_what_is_there_is_used_and_nobody_is_asked(self, hub, options):
        hub.add(NAME, demo_files())
        from huggingface_hub import constants

        offline, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, False
        path = fetch()
        constants.HF_HUB_OFFLINE = offline
        hub.add(NAME, {**demo_files(), "config.json": b"{}"})
        hub.requests.clear()
        assert fetch(**options) == path
        assert not hub.requests

    def test_what_is_not_there_is_an_error(self, hub, options, cache):
        hub.add(NAME, demo_files())
        with pytest.raises(HubNotFoundError, match="offline") as caught:
            fetch(**options)
        assert str(cache) in str(caught.value)
        assert not hub.requests

    @pytest.mark.parametrize("lost", ["config.json", "model.safetensors"])
    def test_what_is_there_in_part_is_an_error(self, hub, lost):
        hub.add(NAME, demo_files())
        (fetch() / lost).unlink()
        hub.requests.clear()
        with pytest.raises(OSError, match=r"org/name"):
            fetch(offline=True)
        assert not hub.requests

    def test_a_missing_shard_is_an_error(self, hub):
        hub.add(NAME, sharded_files())
        (fetch() / "model-00001-of-00002.safetensors").unlink()
        with pytest.raises(HubNotFoundError, match="model-00001-of-00002"):
            fetch(offline=True)


class TestUnreachable:
    """Without an answer of the hub, what was downloaded last counts, and the log says so."""

    @pytest.mark.parametrize("status", [500, 503, 429])
    def test_a_hub_that_fails(self, hub, caplog, status):
        from hub_server import Refusal

        hub.add(NAME, demo_files())
        path = fetch()
        hub.refuse = lambda request: Refusal(status)
        with caplog.at_level(logging.WARNING, "ryzanstein_llm"):
            assert fetch() == path
        assert f"{status}" in caplog.text
        assert str(path) in caplog.text

    def test_no_connection(self, hub, caplog, monkeypatch):
        hub.add(NAME, demo_files())
        path = fetch()
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
        assert fetch() == path
        assert "127.0.0.1:9" in caplog.text

    def test_with_nothing_there(self, hub, monkeypatch, cache):
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
        with pytest.raises(HubConnectionError, match=r"org/name: no connection to 127\.0\.0\.1:9"):
            fetch()
        assert not cache.exists()

    def test_with_nothing_there_and_too_many_requests(self, hub):
        from hub_server import Refusal

        hub.refuse = lambda request: Refusal(429, {"Retry-After": "55"})
        with pytest.raises(HubRateLimitError) as caught:
            fetch()
        assert caught.value.retry_after == 55

    def test_what_is_closed_now_is_not_taken_from_the_cache(self, hub):
        from hub_server import Refusal

        hub.add(NAME, demo_files())
        fetch()
        hub.refuse = lambda request: Refusal(403, {"X-Error-Code": "GatedRepo"})
        with pytest.raises(HubAccessError):
            fetch()


def test_a_read_only_cache_is_enough_if_everything_is_there(hub, cache):
    if os.geteuid() == 0:
        pytest.skip("root writes everywhere")
    hub.add(NAME, demo_files())
    path = fetch()
    for folder, _, _ in os.walk(cache):
        os.chmod(folder, 0o555)
    try:
        assert fetch() == path
    finally:
        for folder, _, _ in os.walk(cache):
            os.chmod(folder, 0o755)


def test_a_cache_that_was_moved(hub, cache, tmp_path, monkeypatch):
    hub.add(NAME, demo_files())
    fetch()
    shutil.move(cache, tmp_path / "elsewhere")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "elsewhere"))
    assert (fetch(offline=True) / "config.json").read_bytes() == demo_files()["config.json"]
