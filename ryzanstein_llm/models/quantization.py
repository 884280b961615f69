"""What config.json says about how the weights of projections are stored."""

from __future__ import annotations

from dataclasses import dataclass

from .config_reader import ConfigReader

__all__ = ["Quantization", "read_quantization"]

# The last part of the names of modules that stay floats in every ternary model.
ALWAYS_FLOAT = ("lm_head", "embed_tokens", "norm", "layernorm", "score")


@dataclass(frozen=True)
class Quantization:
    """
    Attributes
    ----------
    bitnet : bool
        Whether `quantization_config` says that the model was trained with ternary weights and int8
        activations (`quant_method` "bitnet"). Float weights are then masters.
    divides : bool
        For packed weights: whether the multiplier is 1 / weight_scale (`linear_class` "bitlinear",
        or no such key) or weight_scale itself ("autobitlinear").
    mlx_group : int or None
        Columns that share a scale in weights that MLX packed with two bits (`quantization`); None:
        there are none.
    """

    bitnet: bool = False
    divides: bool = True
    mlx_group: int | None = None


def read_quantization(read: ConfigReader) -> Quantization:
    """Read and check `quantization_config` (transformers' `BitNetQuantConfig`).

    Raises
    ------
    FormatError, UnsupportedModelError
        It is incomplete, or asks for what is not supported.
    """
    section = read.section("quantization_config")
    mlx = read.section("quantization")
    if mlx and (not section or section.value("quant_method") is None):
        # MLX writes the same object under both names
        if mlx.integer("bits") != 2:
            raise mlx.unsupported("bits", mlx.value("bits"), "only 2 is supported")
        if mlx.value("mode", "affine") != "affine":
            raise mlx.unsupported("mode", mlx.value("mode"), "only 'affine' is supported")
        group = mlx.integer("group_size")
        if group not in (64, 128):
            raise mlx.unsupported("group_size", group, "only 64 and 128 are supported")
        return Quantization(mlx_group=group)
    if not section:
        return Quantization()
    section.expect("quant_method", "linear_class", "quantization_mode", "modules_to_not_convert")
    section.expect("use_rms_norm", "rms_norm_eps")
    section.refuse_unread()
    method = section.value("quant_method")
    if method is None:
        raise section.wrong("quant_method", method, "there; 'bitnet' is supported")
    if method != "bitnet":
        raise section.unsupported("quant_method", method, "only 'bitnet' is supported")
    linear_class = section.value("linear_class", "bitlinear")
    if linear_class not in ("bitlinear", "autobitlinear"):
        raise section.unsupported(
            "linear_class", linear_class, "supported are 'bitlinear' and 'autobitlinear'"
        )
    if section.boolean("use_rms_norm", False):
        raise section.unsupported("use_rms_norm", True, "not supported")
    kept = section.value("modules_to_not_convert", [])
    if not isinstance(kept, list) or not all(isinstance(name, str) for name in kept):
        raise section.wrong("modules_to_not_convert", kept, "a list of names")
    if not all(name.rsplit(".", 1)[-1].endswith(ALWAYS_FLOAT) for name in kept):
        raise section.unsupported("modules_to_not_convert", kept, "all projections are ternary")
    return Quantization(True, linear_class != "autobitlinear")
