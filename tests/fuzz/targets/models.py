"""Whole models, loaded from spoilt files and asked for two tokens."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

from ryzanstein_llm import BitNetModel
from ryzanstein_llm.inspection import inspect_checkpoint
from ryzanstein_llm.packed_cache import checksums, loading
from ryzanstein_llm.packed_cache.inventory import inventory

from ..models import replace_file, small_model
from ..target import Ready, target
from .files import gguf_models

PROMPT = [3, 4, 5]


def use(path: Path, cache: Path | bool = False) -> None:
    """Load a model and let it work."""
    with BitNetModel(path, n_threads=1, packed_cache=cache) as model:
        ids = [number % model.vocab_size for number in PROMPT]
        model.generate(ids, max_tokens=2, return_result=True)
        if model.vocabulary.tokenizer is not None:
            model.detokenize(model.tokenize("Once upon a time"))


@target
def config(folder: Path) -> Ready:
    """config.json of models of several families."""
    groups = {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "hidden_act": "silu"}
    models = {
        "bitnet": small_model(folder / "bitnet", tokenizer=False),
        "llama": small_model(
            folder / "llama", {"model_type": "llama", "hidden_act": "silu"}, tokenizer=False
        ),
        "qwen3": small_model(
            folder / "qwen3",
            {**groups, "hidden_size": 64, "intermediate_size": 64},
            tokenizer=False,
            form="groups64",
            dtype="F16",
        ),
    }
    seeds = {name: (path / "config.json").read_bytes() for name, path in models.items()}

    def read(data: bytes) -> None:
        name = next((name for name in models if f'"{name}"'.encode() in data), "bitnet")
        replace_file(models[name] / "config.json", data)
        inspect_checkpoint(models[name])
        use(models[name])

    scaling = json.dumps({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}})
    words = [scaling[1:-1].encode(), b'"sliding_window": 8', b'"quantization_config": null']
    return Ready(read, list(seeds.values()), words)


@target
def weights(folder: Path) -> Ready:
    """The bytes of a checkpoint's tensors and their header."""
    config = {"vocab_size": 32, "bos_token_id": 0, "eos_token_id": 1}
    tied, apart = (
        small_model(folder / f"tied {value}", {**config, "tie_word_embeddings": value},
                    tokenizer=False)
        for value in (True, False)
    )  # fmt: skip

    def read(data: bytes) -> None:
        path = apart if b"lm_head.weight" in data else tied
        replace_file(path / "model.safetensors", data)
        use(path)

    seeds = [(path / "model.safetensors").read_bytes() for path in (tied, apart)]
    return Ready(read, seeds, [b"\xff" * 16, bytes(16), b"\x00\x00\xc0\x7f", b"\x80\x7f"])


@target
def gguf_model(folder: Path) -> Ready:
    """GGUF files, with their tokenizers, as models."""
    seeds = gguf_models(folder)
    path = folder / "model.gguf"

    def read(data: bytes) -> None:
        replace_file(path, data)
        inspect_checkpoint(path)
        use(path)

    words = [b"tokenizer.ggml.", b"bitnet-b1.58", b"llama", b"qwen3", b"gpt2", b"\xff" * 4]
    return Ready(read, seeds, words)


@target
def packed_cache(folder: Path) -> Ready:
    """A file of packed weights; with checksums that were made to fit, so that more is read."""
    loading.LEAST_BYTES = 1
    path = small_model(
        folder / "model", {"vocab_size": 32, "bos_token_id": 0, "eos_token_id": 1}, tokenizer=False
    )
    cache = folder / "cache"
    use(path, cache)
    (file,) = cache.glob("*.packed.safetensors")
    seed = file.read_bytes()

    def read(data: bytes) -> None:
        replace_file(file, _with_checksums(data))
        file.chmod(0o600)
        list(inventory(cache, verify=True))
        use(path, cache)

    return Ready(read, [seed], [b"checksums", b'{\\"', bytes(16), b"\xff" * 16])


@target
def saved_session(folder: Path) -> Ready:
    """A saved session; with a digest that was made to fit, so that more is read."""
    path = small_model(folder / "model", tokenizer=False)
    model = BitNetModel(path, n_threads=1, packed_cache=False)
    file = folder / "session"
    with model.session() as session:
        session.generate(PROMPT, max_tokens=4, return_result=True)
        session.save(file)
    seed = file.read_bytes()

    def read(data: bytes) -> None:
        with model.load_session(replace_file(file, _with_digest(data))) as session:
            session.generate([7], max_tokens=2, return_result=True)

    return Ready(read, [seed], [b'"positions":"', b'"tokens"', b'"blocks"', b"\xff" * 8])


def _parts(data: bytes) -> tuple[dict[str, object], bytes] | None:
    """(header, data) of a safetensors file, as far as that can be said; None if not."""
    try:
        (size,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + size])
        return (header, data[8 + size :]) if isinstance(header["__metadata__"], dict) else None
    except (ValueError, KeyError, TypeError, struct.error, RecursionError):
        return None


def _joined(header: dict[str, object], data: bytes) -> bytes:
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % 4096)
    return struct.pack("<Q", len(text)) + text + data


def _spans(header: dict[str, object], data: bytes) -> dict[str, bytes]:
    """The bytes of each tensor, in the order of the data."""
    found = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]  # type: ignore[index]
            found[name] = (begin, data[begin:end])
    return {name: found[name][1] for name in sorted(found, key=lambda name: found[name][0])}


def _with_checksums(data: bytes) -> bytes:
    parts = None if hashlib.sha1(data).digest()[0] % 4 == 0 else _parts(data)
    if parts is None:
        return data
    header, body = parts
    try:
        spans = _spans(header, body)
        sums = {
            name: "".join(
                checksums.checksums(_array(piece[at : at + checksums.PIECE]))
                for at in range(0, len(piece), checksums.PIECE)
            )
            for name, piece in spans.items()
        }
        digest = hashlib.blake2b(b"".join(spans.values()), digest_size=16).hexdigest()
    except (KeyError, TypeError, ValueError):
        return data
    metadata = header["__metadata__"]
    metadata |= {"checksums": json.dumps(sums), "data_digest": digest}  # type: ignore[operator]
    return _joined(header, body)


def _array(data: bytes) -> object:
    import numpy as np

    return np.frombuffer(data, np.uint8)


def _with_digest(data: bytes) -> bytes:
    parts = None if hashlib.sha1(data).digest()[0] % 4 == 0 else _parts(data)
    if parts is None:
        return data
    header, body = parts
    metadata = header["__metadata__"]
    try:
        positions = str(metadata.get("positions", "")).encode()  # type: ignore[attr-defined]
        digest = hashlib.blake2b(positions, digest_size=16)
        for piece in _spans(header, body).values():
            digest.update(piece)
    except (KeyError, TypeError, ValueError):
        return data
    metadata["digest"] = digest.hexdigest()  # type: ignore[index]
    return _joined(header, body)
