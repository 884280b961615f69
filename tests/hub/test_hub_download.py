"""`BitNetModel.from_pretrained`: what is downloaded, and what is not."""

from __future__ import annotations

import shutil
from collections import namedtuple

import pytest
from hub_files import NAME, demo_files, noise, sharded_files

from ryzanstein_llm import BitNetModel
from ryzanstein_llm.errors import (
    FormatError,
    HubChoiceError,
    HubError,
    HubNotFoundError,
    HubSpaceError,
    InvalidParameterError,
)
from ryzanstein_llm.hub import Repository
from ryzanstein_llm.hub.download import download

WANTED = {
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "model.safetensors",
}  # fmt: skip


def fetch(text=NAME, revision=None, **options):
    return download(Repository.parse(text, revision), **options)


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}


def test_a_model_of_the_hub_writes_what_the_same_files_write(hub):
    hub.add(NAME, demo_files())
    with BitNetModel.from_pretrained(NAME, n_threads=1) as model, BitNetModel() as demo:
        text = model.generate("Once upon a time", max_tokens=20)
        assert text == demo.generate("Once upon a time", max_tokens=20)
        assert model.n_threads == 1


def test_only_what_a_model_needs_is_downloaded(hub, cache):
    commit = hub.add(NAME, demo_files())
    path = fetch()
    assert path == cache / "models--org--name" / "snapshots" / commit
    assert {request.file for request in hub.asked("resolve")} == WANTED
    assert contents(path) == {name: demo_files()[name] for name in WANTED}


def test_what_is_there_is_not_downloaded_again(hub):
    hub.add(NAME, demo_files())
    path = fetch()
    hub.requests.clear()
    assert fetch() == path
    assert [request.kind for request in hub.requests] == ["api"]


def test_the_hub_is_not_asked_for_a_commit_that_is_there(hub):
    commit = hub.add(NAME, demo_files())
    path = fetch(revision=commit)
    hub.requests.clear()
    assert fetch(revision=commit) == path
    assert not hub.requests


def test_the_hub_is_asked_for_a_commit_of_which_others_have_downloaded_a_part(hub):
    files = demo_files()
    commit = hub.add(NAME, files)
    path = fetch(revision=commit)
    (path / "tokenizer.json").unlink()
    assert contents(fetch(revision=commit))["tokenizer.json"] == files["tokenizer.json"]


def test_a_new_commit_brings_only_what_has_changed(hub, cache):
    hub.add(NAME, demo_files())
    old = fetch()
    new = hub.add(NAME, {**demo_files(), "generation_config.json": b"{}"})
    hub.requests.clear()
    path = fetch()
    assert path.name == new
    assert [request.file for request in hub.asked("resolve")] == ["generation_config.json"]
    assert (path / "model.safetensors").samefile(old / "model.safetensors")
    assert (cache / "models--org--name" / "refs" / "main").read_text() == new


def test_revisions(hub):
    one = hub.add(NAME, {"m.gguf": noise(20_000, 1)}, "v1")
    two = hub.add(NAME, {"m.gguf": noise(20_000, 2)}, "refs/pr/3")
    assert fetch(revision="v1").parent.name == one
    assert fetch(revision="refs/pr/3").parent.name == two
    assert fetch(revision=one).read_bytes() == noise(20_000, 1)


def test_an_index_brings_the_shards_that_it_lists(hub):
    files = sharded_files()
    hub.add(NAME, files)
    del files["model-00003-of-00003.safetensors"]
    assert contents(fetch()) == files


def test_an_index_that_lists_what_is_not_there(hub):
    files = sharded_files()
    del files["model-00002-of-00002.safetensors"]
    hub.add(NAME, files)
    with pytest.raises(HubNotFoundError, match="model-00002-of-00002"):
        fetch()


@pytest.mark.parametrize(
    "shard", ["../../x.safetensors", "/x.safetensors", "x.bin", 5, None, ["x.safetensors"], {}]
)
def test_an_index_that_lists_something_else(hub, shard, tmp_path):
    import json

    index = json.dumps({"weight_map": {"tensor": shard}}).encode()
    hub.add(NAME, {"config.json": b"{}", "model.safetensors.index.json": index, "x.bin": b"x"})
    with pytest.raises(FormatError, match=r"model\.safetensors\.index\.json"):
        fetch()
    assert not list(tmp_path.glob("*.safetensors"))


def test_a_named_gguf_file_and_nothing_else(hub):
    files = {
        "a/m-Q2_0.gguf": noise(20_000, 1),
        "m-F16.gguf": noise(20_000, 2),
        "config.json": b"{}",
    }
    hub.add(NAME, files)
    path = fetch(f"{NAME}:a/m-Q2_0.gguf")
    assert path.parts[-2:] == ("a", "m-Q2_0.gguf")
    assert path.read_bytes() == files["a/m-Q2_0.gguf"]
    assert [request.file for request in hub.asked("resolve")] == ["a/m-Q2_0.gguf"]
    with pytest.raises(HubChoiceError, match=r"org/name:a/m-Q2_0\.gguf"):
        fetch()


def test_all_parts_of_a_gguf_model(hub):
    parts = {f"m-0000{n}-of-00002.gguf": noise(20_000, n) for n in (1, 2)}
    hub.add(NAME, parts)
    path = fetch()
    assert path.name == "m-00001-of-00002.gguf"
    assert contents(path.parent) == parts


def test_names_that_lead_out_of_the_folder_are_not_there(hub, tmp_path):
    hub.add(NAME, {"../../../../x.gguf": noise(20_000), "m.gguf": b"small", "a\\b.gguf": b"x"})
    assert fetch().read_bytes() == b"small"
    assert not (tmp_path / "x.gguf").exists()


def test_names_with_blanks_and_other_characters(hub):
    hub.add(NAME, {"a b#?%é.gguf": noise(20_000)})
    assert fetch().read_bytes() == noise(20_000)


def test_an_empty_file(hub):
    hub.add(NAME, {"m.gguf": b""})
    assert fetch().read_bytes() == b""


def test_progress_counts_bytes_of_all_files(hub):
    calls = []
    hub.add(NAME, demo_files())
    fetch(progress=lambda *call: calls.append(call))
    total = sum(len(demo_files()[name]) for name in WANTED)
    assert {call[1] for call in calls} == {total}
    assert [call[0] for call in calls] == sorted(call[0] for call in calls)
    assert calls[-1] == (total, total, "downloading model.safetensors")


def test_the_progress_of_a_model_counts_its_download(hub):
    what = set()
    hub.add(NAME, demo_files())
    BitNetModel.from_pretrained(NAME, progress=lambda done, total, w: what.add(w)).close()
    assert "downloading model.safetensors" in what
    assert any(not text.startswith("downloading") for text in what)


class TestArguments:
    """All are checked before anything is downloaded."""

    @pytest.mark.parametrize(
        ("option", "value"),
        [("kv_dtype", "float8"), ("n_threads", 0), ("weight_format", "4bit"), ("skipping", 1),
         ("progress", "bar"), ("offline", "yes"), ("revision", "../x"), ("prefix_cache_bytes", 0)],
    )  # fmt: skip
    def test_out_of_range(self, hub, option, value):
        hub.add(NAME, demo_files())
        with pytest.raises(InvalidParameterError, match=option):
            BitNetModel.from_pretrained(NAME, **{option: value})
        assert not hub.requests

    @pytest.mark.parametrize("option", ["temprature", "path"])
    def test_unknown(self, hub, option):
        hub.add(NAME, demo_files())
        with pytest.raises(TypeError, match=option):
            BitNetModel.from_pretrained(NAME, **{option: 1})
        assert not hub.requests

    def test_a_path_is_not_a_repository(self, hub, tmp_path):
        with pytest.raises(InvalidParameterError, match="repository must be a name like org/name"):
            BitNetModel.from_pretrained(str(tmp_path))
        assert not hub.requests


def test_a_path_is_never_downloaded(hub):
    hub.add(NAME, demo_files())
    with pytest.raises(FileNotFoundError, match="nothing is downloaded for a path"):
        BitNetModel(NAME)
    assert not hub.requests


class TestSpace:
    def test_too_little_is_found_out_before(self, hub, monkeypatch, cache):
        hub.add(NAME, demo_files())
        self.leave(monkeypatch, 1_000_000)
        with pytest.raises(HubSpaceError) as caught:
            fetch()
        needed = sum(len(demo_files()[name]) for name in WANTED)
        assert (caught.value.needed, caught.value.free) == (needed, 1_000_000)
        assert f"{needed:,} bytes" in str(caught.value)
        assert "1,000,000" in str(caught.value)
        assert not hub.asked("resolve")

    def test_what_is_there_needs_none(self, hub, monkeypatch, cache):
        hub.add(NAME, demo_files())
        path = fetch()
        self.leave(monkeypatch, 0)
        assert fetch() == path

    def test_a_disk_that_gets_full_on_the_way(self, hub, monkeypatch, cache):
        import errno

        from ryzanstein_llm.hub import transfer

        def full(self, block):
            raise OSError(errno.ENOSPC, "No space left on device")

        hub.add(NAME, {"m.gguf": noise(50_000)})
        with monkeypatch.context() as patch:
            patch.setattr(transfer._Content, "append", full)
            with pytest.raises(HubSpaceError) as caught:
                fetch()
        assert caught.value.needed == 50_000
        assert fetch().read_bytes() == noise(50_000)

    def leave(self, monkeypatch, free):
        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - free, free))


def test_a_cache_that_cannot_be_written(hub, cache):
    hub.add(NAME, demo_files())
    cache.write_text("a file")
    with pytest.raises(HubError, match="cache"):
        fetch()
