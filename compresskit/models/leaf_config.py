"""The module leaves that a stored graph may have, and the numbers that rebuild each: `type(**config)`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from compresskit.errors import InputError
from compresskit.models.leaves import BatchNorm

_CONV = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "bias", "padding_mode")
_TRANSPOSED = (*_CONV, "output_padding")
_BATCH_NORM = ("num_features", "eps", "momentum", "affine", "track_running_stats")

_CONFIG: Mapping[type[nn.Module], tuple[str, ...]] = {
    nn.Conv1d: _CONV,
    nn.Conv2d: _CONV,
    nn.Conv3d: _CONV,
    nn.ConvTranspose1d: _TRANSPOSED,
    nn.ConvTranspose2d: _TRANSPOSED,
    nn.ConvTranspose3d: _TRANSPOSED,
    nn.Linear: ("in_features", "out_features", "bias"),
    BatchNorm: _BATCH_NORM,
    nn.BatchNorm1d: _BATCH_NORM,
    nn.BatchNorm2d: _BATCH_NORM,
    nn.BatchNorm3d: _BATCH_NORM,
    nn.InstanceNorm1d: _BATCH_NORM,
    nn.InstanceNorm2d: _BATCH_NORM,
    nn.InstanceNorm3d: _BATCH_NORM,
    nn.LayerNorm: ("normalized_shape", "eps", "elementwise_affine", "bias"),
    nn.GroupNorm: ("num_groups", "num_channels", "eps", "affine"),
    nn.Embedding: ("num_embeddings", "embedding_dim", "padding_idx", "max_norm", "norm_type", "scale_grad_by_freq"),
    nn.PReLU: ("num_parameters",),
    nn.Dropout: ("p",),
}
_TYPES = {kind.__name__: kind for kind in _CONFIG}


def encode_leaf(name: str, module: nn.Module) -> dict[str, Any]:
    """A leaf as JSON: `{"type": "Conv2d", "config": {...}}`, weights not included.

    Raises:
        InputError: a checkpoint has no form for this type.
        ValueError: the numbers contradict the weights, so that the checkpoint could not be read back.
    """
    kind = type(module)
    if kind not in _CONFIG:
        raise InputError(f"layer {name} is a {kind.__name__}, which cannot be stored in a checkpoint: write .onnx instead")
    config = {key: _plain(module, key) for key in _CONFIG[kind]}
    encoded = {"type": kind.__name__, "config": config}
    expected, found = (shapes_of(leaf) for leaf in (decode_leaf(encoded), module))
    if expected != found:
        raise ValueError(f"layer {name}: its settings {config} expect weights {expected}, it has {found}")
    return encoded


def decode_leaf(encoded: Mapping[str, Any]) -> nn.Module:
    """The leaf in evaluation mode, its weights on the meta device: they take no memory, whatever the numbers say.

    Raises:
        InputError: the type or a setting is none that a checkpoint may have.
    """
    kind = _TYPES.get(encoded["type"])
    config = encoded["config"]
    if kind is None or set(config) != set(_CONFIG[kind]):
        raise InputError(f"the checkpoint has a layer of type {encoded['type']!r}, which is none that this version knows")
    with torch.device("meta"):
        return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}).eval()


def shapes_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """The shapes of a leaf's own parameters and buffers by name."""
    return {name: tuple(tensor.shape) for name, tensor in own_tensors(module).items()}


def own_tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    """A leaf's own parameters and buffers by name."""
    return {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}


def _plain(module: nn.Module, key: str) -> Any:
    value = getattr(module, key)
    if key == "bias":
        return value is not None
    return list(value) if isinstance(value, tuple) else value
