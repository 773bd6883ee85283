"""What is known of a problem before anything is compressed: meta features (Meta Compression, section 3.3 and appendix B.1).

    graph ─► architecture   counts by operator, depth, widths, MACs, parameters in ten bins
    weights ─► weights      norms, energy that the largest keep, noise of rounding
    data ─► solution        loss, accuracy, norms of the gradient, landmarks; NaN without data
    both ─► data set        classes, channels, samples

The last line of weights goes beyond the paper: what a pruner or a quantizer would throw away is known without trying it. So do landmarks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from compresskit.data import Dataset, Split, batches
from compresskit.models.cost import node_costs
from compresskit.models.graph import ModelGraph
from compresskit.recommend.probes import BLOWS, probes
from compresskit.recommend.table import Problem
from compresskit.training import evaluate
from compresskit.training.evaluation import evaluating
from compresskit.training.objectives import loss, predict

PARAMETER_BINS = (1e4, 3e4, 1e5, 3e5, 1e6, 3e6, 1e7, 3e7, 1e8)
"""Edges between the ten bins of appendix B.1."""
KEPT = (0.06, 0.1, 0.15, 0.25, 0.35, 0.5, 0.7)
"""Fractions of the parameters at which the kept energy is noted."""
ROUNDED = (2, 3, 4, 6, 8)
"""Bits at which the noise of rounding is noted."""
GRADIENT_SAMPLES = 512
TINY_GRADIENT = 1e-4
_SOLUTION = ("loss", "accuracy", "rmse", "gradient_l0", "gradient_l1", "gradient_l2", *BLOWS)
_DATA = ("classes", "channels", "log_inputs", "log_samples", "constant")
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
LAYERS = (*CONVOLUTIONS, nn.Linear)


def problem(graph: ModelGraph, data: Dataset | None, *, name: str = "", data_name: str = "", evaluation: Split | None = None) -> Problem:
    """Describe `graph` on `data`.

    Args:
        data: None: what only data tell is NaN, and qualities are taken as accuracies from 0 to 1.
        evaluation: samples to take solution features from; None: the validation split.
    """
    features = {**architecture(graph), **weights(graph)}
    if data is None:
        return Problem(name, called(graph), data_name, 1.0, 0.0, {**features, **dict.fromkeys(_SOLUTION + _DATA, math.nan)})
    split = evaluation or data.validation
    found = solution(graph, split, data)
    original = found["accuracy"] if data.classes is not None else found["rmse"]
    features |= {**{key: found[key] for key in _SOLUTION}, **_data_set(data)}
    return Problem(name, called(graph), data_name, original, trivial_quality(split), features)


def called(graph: ModelGraph) -> str:
    """The name of its architecture, by which models are told apart."""
    return graph.arch or graph.source


def is_of_model(name: str) -> bool:
    """Whether the feature is known without data."""
    return name not in (*_SOLUTION, *_DATA)


def architecture(graph: ModelGraph) -> dict[str, float]:
    """Counts by operator, depth, widths and cost."""
    leaves = list(_leaves(graph))
    layers = [module for module in leaves if isinstance(module, LAYERS)]
    widths = [float(len(module.weight)) for module in layers] or [0.0]
    costs = node_costs(graph)
    macs, parameters = sum(cost.macs for cost in costs), sum(cost.params for cost in costs)
    kinds = [cost.kind for cost in costs]
    convolutions = [module for module in leaves if isinstance(module, CONVOLUTIONS)]
    return {
        "convolutions": float(len(convolutions)),
        "pointwise": float(sum(max(module.kernel_size) == 1 for module in convolutions)),
        "grouped": float(sum(module.groups > 1 for module in convolutions)),
        "linear": float(sum(isinstance(module, nn.Linear) for module in leaves)),
        "norms": float(sum("Norm" in type(module).__name__ for module in leaves)),
        "additions": float(sum(kind.startswith("add") for kind in kinds)),
        "products": float(sum(kind.startswith("mul") for kind in kinds)),
        "concatenations": float(sum(kind.startswith("cat") for kind in kinds)),
        "attention": float(sum("attention" in kind or kind in ("bmm", "matmul") for kind in kinds)),
        "depth": float(len(layers)),
        "width_mean": float(np.mean(widths)),
        "width_max": max(widths),
        "width_min": min(widths),
        "log_macs": math.log10(max(macs, 1)),
        "log_parameters": math.log10(max(parameters, 1)),
        "parameter_bin": float(np.digitize(parameters, PARAMETER_BINS)) / len(PARAMETER_BINS),
        "macs_a_parameter": macs / max(parameters, 1),
    }


@torch.no_grad()
def weights(graph: ModelGraph) -> dict[str, float]:
    """Norms of the weights of layers, and what pruning and rounding would leave of them, by the fraction kept and by the bits."""
    tensors = [module.weight.detach().float().flatten(1) for module in _leaves(graph) if isinstance(module, LAYERS)]
    if not tensors:
        return dict.fromkeys(weight_names(), math.nan)
    every = torch.cat([tensor.flatten() for tensor in tensors])
    energy = every.square().sum().clamp(min=1e-30)
    ranked = every.abs().sort(descending=True).values.square().cumsum(0) / energy
    found = {"weight_l1": float(every.abs().mean()), "weight_l2": float(every.square().mean().sqrt()), "weight_largest": float(every.abs().max())}
    found |= {f"kept_energy_{kept:g}": float(ranked[max(1, round(kept * len(every))) - 1]) for kept in KEPT}
    # Of a fraction k of the parameters, narrowing every layer keeps about the square root of k of its outputs.
    found |= {f"kept_channels_{kept:g}": _mean(_kept_rows(tensor, math.sqrt(kept)) for tensor in tensors) for kept in KEPT}
    return found | {f"rounding_db_{bits}": _mean(_rounding(tensor, bits) for tensor in tensors) for bits in ROUNDED}


def weight_names() -> tuple[str, ...]:
    """Names of what `weights` gives."""
    kept = [f"{kind}_{fraction:g}" for kind in ("kept_energy", "kept_channels") for fraction in KEPT]
    return ("weight_l1", "weight_l2", "weight_largest", *kept, *(f"rounding_db_{bits}" for bits in ROUNDED))


def solution(graph: ModelGraph, split: Split, data: Dataset) -> dict[str, float]:
    """Loss and quality on `split`, and the norms of the loss's gradient on its first samples: fraction of entries that are not tiny, mean, RMS."""
    found = evaluate(graph.module, split, data.normalization)
    few = Split(split.x[:GRADIENT_SAMPLES], split.y[:GRADIENT_SAMPLES])
    sums = torch.zeros(3, dtype=torch.float64)
    count = 0
    for gradient in _gradient(graph, few, data):
        sums += torch.stack([(gradient.abs() > TINY_GRADIENT).sum(), gradient.abs().sum(), gradient.square().sum()]).double()
        count += gradient.numel()
    few_entries, absolute, squares = (sums / max(count, 1)).tolist()
    return {
        "loss": found.loss,
        "accuracy": math.nan if found.accuracy is None else found.iou if found.iou is not None else found.accuracy,
        "rmse": math.nan if found.rmse is None else found.rmse,
        "gradient_l0": few_entries,
        "gradient_l1": absolute,
        "gradient_l2": math.sqrt(squares),
        **probes(graph.module, _layers(graph), split, data.normalization, trivial_quality(split)),
    }


def trivial_quality(split: Split) -> float:
    """The quality of the best constant answer: the most frequent class's share, or the standard deviation of the targets."""
    if np.issubdtype(split.y.dtype, np.integer):
        return float(np.bincount(split.y.reshape(-1)).max() / split.y.size)
    return float(split.y.std())


def _data_set(data: Dataset) -> dict[str, float]:
    shape = data.train.x.shape[1:]
    return {
        "classes": float(data.classes or 0),
        "channels": float(shape[0]),
        "log_inputs": math.log10(max(1, math.prod(shape))),
        "log_samples": math.log10(len(data.train.x)),
        "constant": trivial_quality(data.validation),
    }


def _gradient(graph: ModelGraph, split: Split, data: Dataset) -> Iterator[Tensor]:
    """The gradient of the mean loss over `split`, a tensor a parameter; the module's own gradients are left alone."""
    parameters = [parameter for parameter in graph.module.parameters() if parameter.requires_grad]
    total = [torch.zeros_like(parameter) for parameter in parameters]
    with evaluating(graph.module):
        for x, y in batches(split, data.normalization, 128):
            found = torch.autograd.grad(loss(predict(graph.module, x), y), parameters, allow_unused=True)
            for sums, gradient in zip(total, found, strict=True):
                sums += 0 if gradient is None else gradient * (len(x) / len(split.x))
    yield from total


def _leaves(graph: ModelGraph) -> Iterable[nn.Module]:
    return [graph.module.get_submodule(str(node.target)) for node in graph.module.graph.nodes if node.op == "call_module"]


def _layers(graph: ModelGraph) -> list[str]:
    """Names of the submodules that hold weights, in the order of the computation."""
    names = [str(node.target) for node in graph.module.graph.nodes if node.op == "call_module"]
    return list(dict.fromkeys(name for name in names if isinstance(graph.module.get_submodule(name), LAYERS)))


def _kept_rows(tensor: Tensor, fraction: float) -> float:
    rows = tensor.square().sum(1).sort(descending=True).values
    return float(rows[: max(1, round(fraction * len(rows)))].sum() / rows.sum().clamp(min=1e-30))


def _rounding(tensor: Tensor, bits: int) -> float:
    """Signal to rounding noise [dB] of symmetric integers with a scale a row; 100 where nothing is lost."""
    top = 2 ** (bits - 1) - 1
    scale = tensor.abs().amax(1, keepdim=True).clamp(min=1e-30) / top
    noise = ((tensor / scale).round() * scale - tensor).square().sum()
    return min(100.0, 10 * math.log10(float(tensor.square().sum().clamp(min=1e-30)) / max(float(noise), 1e-30)))


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
