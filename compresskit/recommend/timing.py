"""How long a compressed model will take in ONNX Runtime here, for the settings that make one faster: fewer channels, and 8 bits.

Measured, not predicted: a cut to the asked number of parameters takes a second and needs no training to be timed. Zeros and other
widths of integers are stored, not computed with, and leave the time as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from compresskit.data import Dataset
from compresskit.models.graph import ModelGraph, random_inputs
from compresskit.models.latency import measure
from compresskit.models.onnx_out import export_onnx
from compresskit.progress import SILENT, Progress
from compresskit.pruning.config import PruneConfig, Target
from compresskit.pruning.engine import prune
from compresskit.quantization.config import QuantizeConfig
from compresskit.quantization.engine import quantize
from compresskit.recommend.methods import LEAST_WIDTH
from compresskit.recommend.settings import NONE, Setting

INTEGER_BITS = 8
_MASKING = (NONE, "level", "level-tuned")
_SECONDS = 0.3


def latencies(
    graph: ModelGraph, data: Dataset | None, settings: Sequence[Setting], *, threads: int, progress: Progress = SILENT
) -> dict[Setting, float]:
    """Milliseconds of each of `settings`: of its channels, times the share that integers take where it has 8 bits."""
    sparsities = sorted({0.0} | {_removed(setting) for setting in settings})
    progress.stage("time", len(sparsities))
    cuts = {}
    for sparsity in sparsities:
        smaller = graph if sparsity == 0 else prune(graph, None, _cut(sparsity)).graph
        cuts[sparsity] = _milliseconds(export_onnx(smaller).SerializeToString(), graph, threads)
        progress.advance(1)
    share = 1.0
    if data is not None and any(setting.bits == INTEGER_BITS for setting in settings):
        integers = quantize(graph, data, QuantizeConfig(samples=32), source=graph.source, threads=threads).model.SerializeToString()
        share = _milliseconds(integers, graph, threads) / cuts[0.0]
    return {setting: cuts[_removed(setting)] * (share if setting.bits == INTEGER_BITS else 1.0) for setting in settings}


def _removed(setting: Setting) -> float:
    """The fraction of the parameters that is cut, not just zero."""
    return 0.0 if setting.pruner in _MASKING else setting.sparsity


def _cut(sparsity: float) -> PruneConfig:
    return PruneConfig(target=Target("params", 1 - sparsity), criterion="l1", floor=LEAST_WIDTH, round_to=1, epochs=0.0)


def _milliseconds(model: bytes, graph: ModelGraph, threads: int) -> float:
    inputs = random_inputs(graph.inputs, 1, free_batch=False)
    feeds = {spec.name: value.numpy() for spec, value in zip(graph.inputs, inputs, strict=True)}
    return measure(model, feeds, threads=threads, seconds=_SECONDS).p50_ms
