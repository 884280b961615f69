"""A family is a few lines: the parts of its layers by name, and what its config has of its own."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from reference import FamilyReference, relative_error, steady_prompts, write_random_family

from ryzanstein_llm import BitNetModel
from ryzanstein_llm.errors import UnsupportedModelError
from ryzanstein_llm.models import FAMILIES

SOURCE = """
from ryzanstein_llm.models.config import read_config
from ryzanstein_llm.models.config_reader import ConfigReader
from ryzanstein_llm.models.description import Description, LayerNames

NAMES = LayerNames(q_norm="self_attn.q_norm", k_norm="self_attn.k_norm")

def describe(checkpoint):
    config = read_config(ConfigReader(checkpoint), ("ToyForCausalLM",))
    return Description("toy", config, NAMES)
"""


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("toy_family")
    exec(SOURCE, module.__dict__)
    monkeypatch.setitem(sys.modules, "toy_family", module)
    monkeypatch.setitem(FAMILIES, "toy", "toy_family")


def write_toy(directory: Path) -> Path:
    """Qwen3 under another name."""
    write_random_family(directory, "qwen3", head_dim=40)
    path = directory / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config |= {"model_type": "toy", "architectures": ["ToyForCausalLM"]}
    path.write_text(json.dumps(config), encoding="utf-8")
    return directory


@pytest.mark.usefixtures("toy")
def test_a_registered_module_loads_and_runs(tmp_path: Path) -> None:
    reference = FamilyReference.open(write_toy(tmp_path))
    with BitNetModel(tmp_path, n_threads=1, kv_dtype="float32") as model:
        assert model.info()["family"] == "toy"
        (ids,) = steady_prompts(reference, 1, 9)
        assert np.max(relative_error(model.forward(ids), reference.forward(ids))) < 1e-5


def test_an_unregistered_one_is_refused_with_the_names_of_the_others(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=r"'toy'.*'bitnet'.*'qwen3'"):
        BitNetModel(write_toy(tmp_path))
