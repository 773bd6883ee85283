"""A metanetwork as a safetensors file: its weights, and its config as JSON in the metadata entry "compresskit.metanetwork"."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors

from compresskit.errors import InputError, UsageError
from compresskit.metaprune.network_model import Metanetwork, MetanetworkConfig
from compresskit.wording import first_line

KEY = "compresskit.metanetwork"
VERSION = 1


def save(metanetwork: Metanetwork) -> bytes:
    """`metanetwork` as a file that `load` reads back, equal to the bit."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in metanetwork.state_dict().items()}
    return safetensors.save(state, {KEY: json.dumps({"version": VERSION, **asdict(metanetwork.config)})})


def load(data: bytes, source: str = "the metanetwork") -> Metanetwork:
    """The metanetwork in a file, in evaluation mode on the CPU.

    Args:
        data: what `save` wrote.
        source: name of the file, for messages.

    Raises:
        InputError: it is damaged, holds no metanetwork, or one that reads other features than ours; the message names the difference.
    """
    try:
        state = safetensors.load(data)
        metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__", {})
        described = json.loads(metadata[KEY]) if KEY in metadata else None
    except (SafetensorError, ValueError, RecursionError) as error:
        raise InputError(f"{source} is no whole safetensors file ({first_line(error)}): take another copy") from error
    if not isinstance(described, dict):
        raise InputError(f"{source} holds no metanetwork: expected what `compresskit metaprune --train` writes")
    config = _config(described, source)
    with torch.device("meta"):  # nothing is allocated before the file is known to hold it
        expected = Metanetwork(config).state_dict()
    for name in sorted(expected.keys() | state.keys()):
        shapes = [None if name not in tensors else tuple(tensors[name].shape) for tensors in (expected, state)]
        if shapes[0] != shapes[1]:
            raise InputError(f"{source}: {name} has the shape {shapes[1]}, its config asks for {shapes[0]}: take another copy")
    if not all(torch.isfinite(tensor).all() for tensor in state.values()):
        raise InputError(f"{source} holds weights that are not finite: train it again")
    metanetwork = Metanetwork(config)
    metanetwork.load_state_dict(state)
    return metanetwork.eval()


def _config(described: dict[str, Any], source: str) -> MetanetworkConfig:
    if described.pop("version", None) != VERSION:
        raise InputError(f"{source} is of another version than {VERSION}, which this compresskit reads: train it again")
    ours = asdict(MetanetworkConfig())
    # A whole number does for any, a fraction only for a scale; true and false are no numbers.
    if described.keys() != ours.keys() or not all(type(value) in (int, type(ours[name])) for name, value in described.items()):
        raise InputError(f"{source}: its config is {described}, expected numbers named {', '.join(ours)}")
    for name in ("node_features", "tap_features"):
        if described[name] != ours[name]:
            raise InputError(f"{source} reads {described[name]} {name.replace('_', ' ')}, this compresskit makes {ours[name]}: train it again")
    try:
        return MetanetworkConfig(**described)
    except UsageError as error:
        raise InputError(f"{source}: {error}") from error
