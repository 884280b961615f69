"""Logits and tokens are those of version 2.0, bit for bit, in every tier.

Those with an int8 cache are of a later version, whose attention multiplies such a cache in
integers.

A change of these bits is a change of the contract, which CHANGELOG.md has to announce.
"""

from __future__ import annotations

import json

import pytest
from recorded_bits import LARGE, RECORDED, computed, open_model

BITS = json.loads(RECORDED.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.mark.parametrize("case", [case for case in BITS if not case.startswith(LARGE)])
def test_bits_are_those_of_version_2_0(tier, directory, case):
    name, kv_dtype = case.split()
    with open_model(name, directory, kv_dtype=kv_dtype, n_threads=2) as model:
        assert computed(model, 300, 40) == BITS[case]


@pytest.mark.slow
def test_bits_of_a_large_model_are_those_of_version_2_0(directory):
    with open_model(LARGE, directory, packed_cache=False) as model:
        assert computed(model, 64, 12) == BITS[f"{LARGE} bfloat16"]
