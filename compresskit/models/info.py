"""Which model a report is about."""

from __future__ import annotations

from collections.abc import Iterable

from compresskit.models.graph import TensorSpec
from compresskit.report import ModelInfo, ModelInput


def model_info(source: str, arch: str | None, inputs: Iterable[TensorSpec]) -> ModelInfo:
    """The model from `source`, built by `arch` where that is known, with its `inputs` as the file has them."""
    return ModelInfo(source, arch, tuple(ModelInput(spec.name, spec.shape, str(spec.dtype).removeprefix("torch.")) for spec in inputs))
