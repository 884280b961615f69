"""Errors have a type of ours that says what is the matter, and survive a way between processes."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from ryzanstein_llm import BitNetModel, errors
from ryzanstein_llm.formats.unreadable import unreadable
from ryzanstein_llm.testing import make_checkpoint
from ryzanstein_llm.text.tokenizer import Tokenizer

ARGUMENTS = {
    "ContextOverflowError": (513, 512, "max_tokens=511 leaves no room for the prompt"),
    "CacheBudgetError": (2000, 1000),
    "KernelSelfTestError": ("avx2", "dense_rows", "BF16", 2560, ("scalar",)),
    "MemoryLimitError": ("too little", 2000, 1000, "this machine"),
    "InvalidParameterError": ("must be 1, not 2", "n"),
    "DiskSpaceError": ("model.gguf", "takes 5 MB", errno.ENOSPC),
    "WriteError": ("model.gguf", "Permission denied", errno.EACCES),
    "ChatTemplateError": ("no", "because"),
    "HubChecksumError": ("a.gguf", "0" * 64, "1" * 64),
    "HubSpaceError": ("cache", 2000, 1000),
    "IncompleteOutputError": ("schema", '{"sons":', "length", True),
    "InvalidOutputError": ("schema", '{"sons":3}', "never"),
}


@pytest.mark.parametrize("name", errors.__all__)
def test_an_error_survives_pickling_with_its_message_and_attributes(name: str) -> None:
    error = getattr(errors, name)(*ARGUMENTS.get(name, ("what is wrong",)))
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)
    assert isinstance(error, errors.RyzansteinError)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_a_shortage_is_not_blamed_on_the_file(tmp_path: Path, number: int) -> None:
    error = unreadable(tmp_path / "model.safetensors", OSError(number, os.strerror(number)))
    assert type(error) is errors.ResourceLimitError
    assert str(tmp_path) in str(error)


def test_a_file_that_is_not_there_is_not_called_a_shortage(tmp_path: Path) -> None:
    error = unreadable(tmp_path / "x", FileNotFoundError(errno.ENOENT, "No such file"))
    assert type(error) is errors.CheckpointNotFoundError


FEW_DESCRIPTORS = """
import resource, sys
from ryzanstein_llm import BitNetModel, errors
BitNetModel(sys.argv[1], n_threads=1).close()  # everything is imported
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
for limit in range(3, 9):
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        BitNetModel(sys.argv[1], n_threads=1, packed_cache=False).close()
        print("loaded")
    except errors.ResourceLimitError:
        print("refused")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="descriptors are counted otherwise")
def test_too_few_descriptors_at_any_place(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "model", "tiny")
    command = [sys.executable, "-c", FEW_DESCRIPTORS, str(tmp_path / "model")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert not done.stderr
    assert done.stdout.split()[0] == "refused"
    assert done.stdout.split()[-1] == "loaded"


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes")
def test_a_path_that_is_not_utf_8(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/mod\xe8le"
    make_checkpoint(os.fsdecode(path), "tiny")
    for given in (path, os.fsdecode(path)):
        with BitNetModel(given, n_threads=1) as model:
            assert model.generate("Once", max_tokens=2, return_result=True).ids


def test_a_tokenizer_that_is_no_json_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(errors.FormatError, match=r"tokenizer\.json"):
        Tokenizer.from_file(tmp_path / "tokenizer.json")
    with pytest.raises(errors.CheckpointNotFoundError, match=r"nowhere\.json"):
        Tokenizer.from_file(tmp_path / "nowhere.json")


def test_the_result_of_a_stream_before_its_end() -> None:
    with (
        BitNetModel(n_threads=1) as model,
        model.stream("Once", max_tokens=3) as stream,
        pytest.raises(errors.UnfinishedStreamError),
    ):
        _ = stream.result
