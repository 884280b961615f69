"""What is the name of a repository, and which of its files make up the model."""

from __future__ import annotations

import pytest

from ryzanstein_llm.errors import HubChoiceError, HubNotFoundError, InvalidParameterError
from ryzanstein_llm.hub import Repository, is_repository_name
from ryzanstein_llm.hub.choice import SETTINGS, choose

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


class TestNames:
    @pytest.mark.parametrize(
        "name",
        [
            "microsoft/bitnet-b1.58-2B-4T",
            "a/b",
            "1bitLLM/bitnet_b1_58-3B",
            "org/name:file.gguf",
            "org/name:folder/file.Q2_0.gguf",
            "org/name:other.safetensors",
        ],
    )
    def test_of_a_repository(self, name):
        assert is_repository_name(name)
        repository = Repository.parse(name)
        assert f"{repository.name}:{repository.file}".removesuffix(":None") == name
        assert repository.revision == "main"

    @pytest.mark.parametrize(
        "path",
        [
            "model", "./a/b", "../b", "/a/b", "a/b/c", "a/", "/b", "", "~/b", "a//b", "a\\b",
            "C:/b", "a/b.gguf", "a/model.safetensors", "a/b--c", "a/b..c", "-a/b", "a/b-",
            ".a/b", "a/b.",
            "a b/c", "a/b.git", "a/" + "b" * 95, "ä/b", "a/b\n",
        ],
    )  # fmt: skip
    def test_what_means_a_path(self, path):
        assert not is_repository_name(path)

    @pytest.mark.parametrize("name", ["a", "a/b/c", "", "../b", "a/b--c", 5, None])
    def test_another_form_is_refused_by_its_text(self, name):
        with pytest.raises(InvalidParameterError, match="like org/name") as caught:
            Repository.parse(name)
        assert repr(name) in str(caught.value)
        assert caught.value.parameter == "repository"

    @pytest.mark.parametrize(
        "file",
        ["", "pytorch_model.bin", "model.pt", "../x.gguf", "/x.gguf", "a//x.gguf", "a\\x.gguf",
         "./x.gguf", "C:x.gguf", "a\0.gguf"],
    )  # fmt: skip
    def test_other_files_are_refused(self, file):
        with pytest.raises(InvalidParameterError, match=r"must be a \.gguf or a \.safetensors"):
            Repository.parse(f"org/name:{file}")

    @pytest.mark.parametrize("revision", ["v1.0", "refs/pr/3", "0" * 40])
    def test_a_revision(self, revision):
        assert Repository.parse("a/b", revision).revision == revision
        assert str(Repository.parse("a/b", revision)) == f"a/b at {revision}"

    @pytest.mark.parametrize("revision", ["", "../x", "/etc", "a//b", "a/../../b", 7, "a\nb"])
    def test_a_revision_that_cannot_be_one(self, revision):
        with pytest.raises(InvalidParameterError) as caught:
            Repository.parse("a/b", revision)
        assert caught.value.parameter == "revision"
        assert repr(revision) in str(caught.value)


def chosen(names, text="org/name"):
    return choose(Repository.parse(text), names)


class TestChoice:
    def test_safetensors_and_what_belongs_to_them(self):
        others = ["README.md", "pytorch_model.bin", "model.pt", "original/model.safetensors",
                  "tf_model.h5", "special.py", "m.gguf", INDEX, "training_args.bin"]  # fmt: skip
        choice = chosen([*others, *SETTINGS, SINGLE])
        assert choice.files == (*SETTINGS, SINGLE)
        assert (choice.opened, choice.index) == ("", None)

    def test_only_settings_that_are_there(self):
        assert chosen(["config.json", SINGLE]).files == ("config.json", SINGLE)

    def test_an_index_stands_for_its_shards(self):
        choice = chosen(["config.json", INDEX, "model-00001-of-00002.safetensors"])
        assert choice.files == ("config.json", INDEX)
        assert (choice.opened, choice.index) == ("", INDEX)

    def test_one_file_of_another_name(self):
        choice = chosen(["config.json", "weights.safetensors"])
        assert choice.opened == "weights.safetensors"
        assert choice.files == ("config.json", "weights.safetensors")

    def test_the_only_gguf_file(self):
        choice = chosen(["README.md", "config.json", "q/model.gguf", "x.bin"])
        assert (choice.files, choice.opened) == (("q/model.gguf",), "q/model.gguf")

    def test_the_named_file(self):
        names = ["a.gguf", "b.gguf", SINGLE, "config.json", "c.safetensors"]
        assert chosen(names, "org/name:b.gguf").files == ("b.gguf",)
        choice = chosen(names, "org/name:c.safetensors")
        assert (choice.files, choice.opened) == (("config.json", "c.safetensors"), "c.safetensors")

    def test_all_parts_of_a_gguf_model(self):
        parts = [f"q/m-{n:05}-of-00003.gguf" for n in (1, 2, 3)]
        for text in ("org/name", f"org/name:{parts[0]}", f"org/name:{parts[2]}"):
            assert chosen(parts, text).files == tuple(parts)

    def test_a_missing_part(self):
        with pytest.raises(HubNotFoundError, match=r"m-00002-of-00003\.gguf is missing"):
            chosen(["m-00001-of-00003.gguf", "m-00003-of-00003.gguf"])

    def test_several_gguf_files_are_listed(self):
        names = ["m-Q2_0.gguf", "m-F16-00001-of-00002.gguf", "m-F16-00002-of-00002.gguf"]
        with pytest.raises(HubChoiceError) as caught:
            chosen(names)
        assert caught.value.files == ("m-F16-00001-of-00002.gguf", "m-Q2_0.gguf")
        assert "org/name:m-F16-00001-of-00002.gguf" in str(caught.value)
        assert "m-Q2_0.gguf" in str(caught.value)

    def test_several_safetensors_of_other_names_are_listed(self):
        with pytest.raises(HubChoiceError) as caught:
            chosen(["a.safetensors", "b.safetensors", "c.gguf"])
        assert caught.value.files == ("a.safetensors", "b.safetensors")

    @pytest.mark.parametrize("names", [[], ["pytorch_model.bin", "model.pt", "config.json"]])
    def test_pickled_weights_are_never_chosen(self, names):
        with pytest.raises(HubChoiceError, match="neither safetensors nor GGUF"):
            chosen(names)

    def test_a_named_file_that_is_not_there(self):
        with pytest.raises(HubNotFoundError, match=r"has no file 'c\.gguf'; it has a\.gguf"):
            chosen(["a.gguf", "pytorch_model.bin"], "org/name:c.gguf")
