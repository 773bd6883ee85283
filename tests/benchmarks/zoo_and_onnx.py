"""How far the zoo and real ONNX files can be cut, ours beside torch-pruning alone: `python tests/benchmarks/zoo_and_onnx.py ONNX_FOLDER`.

Data-free and untrained, to 0.3, 0.5 and 0.7 of the MACs. Ours: are the MACs within 1%, does the cut model equal the zeroed one, does the
ONNX file equal the graph? torch-pruning: the zoo's own modules, and the imported graphs of the files, with group magnitude at the ratio
that its README gives for such a target, 1 - sqrt(target). What it makes is "ok" where it runs and equals the original with the same
channels zeroed; else it is "uncut", "breaks" (cutting or running raises) or "wrong" (what the kept channels compute has changed, as when
a layer norm loses inputs). Recurrent files are left out.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch_pruning as tp
from common import RESULTS, heading, write
from torch import nn
from torch_pruning_peer import heads

from compresskit.errors import CompresskitError
from compresskit.models.cost import total
from compresskit.models.graph import ModelGraph, TensorSpec
from compresskit.models.lift import graph_from_module
from compresskit.models.load import load_model
from compresskit.models.onnx_out import export_onnx
from compresskit.models.parity import check_parity
from compresskit.models.zoo import ARCHITECTURES, build
from compresskit.pruning import engine
from compresskit.pruning.config import PruneConfig, Target
from compresskit.runtime import seed_everything, set_threads
from compresskit.training import recalibrate_batchnorm

ZOO: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in ARCHITECTURES} | {"resnet20 (shortcut B)": ("resnet20", {"shortcut": "B"})}
TARGETS = (0.3, 0.5, 0.7)
CLOSE = 0.01
TOLERANCE = 1e-4  # of the largest output


def from_zoo(name: str) -> tuple[nn.Module, ModelGraph]:
    """A network of the zoo with random weights and the norm statistics of noise, so that no error hides behind a signal that faded; its graph."""
    arch, options = ZOO[name]
    seed_everything(0)
    module = build(arch, **options).eval()
    shape, dtype = ARCHITECTURES[arch].input_shape, ARCHITECTURES[arch].dtype
    noise = torch.randn(8, *shape)
    recalibrate_batchnorm(module, [(noise, noise)])
    return module, graph_from_module(module, (TensorSpec("input", (None, *shape), dtype),), source=name)


def from_file(path: Path) -> tuple[nn.Module, ModelGraph]:
    graph = load_model(path)
    return graph.module, graph


def ours(graph: ModelGraph, target: float) -> dict[str, Any]:
    """Prune, export, check."""
    seen: list[float] = []

    def watched(*arguments: Any) -> float:
        seen.append(disagreement(*arguments))
        return seen[-1]

    began, disagreement = time.perf_counter(), engine.disagreement
    try:
        with mock.patch.object(engine, "disagreement", watched):
            result = engine.prune(graph, None, PruneConfig(target=Target("flops", target), epochs=0))
        parity = check_parity(result.graph, export_onnx(result.graph).SerializeToString())
    except CompresskitError as error:
        return {"outcome": "refuses", "reason": str(error)}
    except Exception as error:  # a bug of ours, to be seen in the table
        return {"outcome": "breaks", "reason": first_line(error)}
    return {
        "outcome": "ok" if result.met else "misses",
        "kept_macs": round(result.reached, 4),
        "disagreement": float(f"{seen[-1]:.2g}"),
        "parity": float(f"{parity.max_ratio:.2g}"),
        "left_whole": dict(Counter(skipped.reason for skipped in result.skipped)),
        "seconds": round(time.perf_counter() - began, 1),
    }


def theirs(module: nn.Module, graph: ModelGraph, target: float) -> dict[str, Any]:
    """Let torch-pruning cut a copy of `module`."""
    module, reference = copy.deepcopy(module), copy.deepcopy(module)
    inputs = graph.example(1)
    parameters = sum(parameter.numel() for parameter in module.parameters())
    try:
        pruner = tp.pruner.BasePruner(
            module,
            inputs if len(inputs) > 1 else inputs[0],
            tp.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=1 - target**0.5,
            ignored_layers=[module.get_submodule(name) for name in heads(graph)],
            num_heads={layer.qkv: layer.heads for layer in module.modules() if hasattr(layer, "qkv")},
        )
        cut_and_zero(pruner, module, reference)
        with torch.no_grad():
            got, wanted = as_tuple(module(*inputs)), as_tuple(reference(*inputs))
    except Exception as error:  # whatever it raises is the finding
        return {"outcome": "breaks", "reason": first_line(error)}
    if sum(parameter.numel() for parameter in module.parameters()) == parameters:
        return {"outcome": "uncut"}
    kept = total(lifted(module, graph)).macs / total(graph).macs
    difference = max(relative(one, two) for one, two in zip(got, wanted, strict=True))
    return {"outcome": "ok" if difference <= TOLERANCE else "wrong", "kept_macs": round(kept, 4), "disagreement": float(f"{difference:.2g}")}


def cut_and_zero(pruner: tp.pruner.BasePruner, module: nn.Module, reference: nn.Module) -> None:
    """Cut `module`, and zero in `reference` the parameters that make the channels that go."""
    names = {id(part): name for name, part in itertools.chain(module.named_modules(), module.named_parameters())}
    parts = {**dict(reference.named_modules()), **dict(reference.named_parameters())}
    left: dict[str, list[int]] = {}  # the original numbers of the channels that a layer still has
    for group in pruner.step(interactive=True):
        for dependency, channels in group:
            name = names.get(id(dependency.target.module))
            if name is None or not pruner.DG.is_out_channel_pruning_fn(dependency.handler):
                continue
            for tensor, dim in produced(parts[name], dependency.target.pruning_dim):
                present = left.setdefault(name, list(range(tensor.shape[dim])))
                tensor.data.index_fill_(dim, torch.tensor([present[channel] for channel in channels]), 0)
            gone = set(channels)
            left[name] = [channel for index, channel in enumerate(left.get(name, [])) if index not in gone]
        group.prune()


def produced(part: Any, parameter_dim: int) -> list[tuple[torch.Tensor, int]]:
    """The tensors of a layer that make its output channels, and the dimension that counts them."""
    if isinstance(part, nn.Parameter):
        return [(part, parameter_dim)]
    weight, bias = getattr(part, "weight", None), getattr(part, "bias", None)
    if weight is None:
        return []
    return [(weight, 1 if getattr(part, "transposed", False) else 0), *([] if bias is None else [(bias, 0)])]


def lifted(module: nn.Module, graph: ModelGraph) -> ModelGraph:
    if isinstance(module, torch.fx.GraphModule):
        return graph.with_module(module)
    return graph_from_module(module, graph.inputs, source=graph.source)


def as_tuple(outputs: Any) -> tuple[torch.Tensor, ...]:
    return (outputs,) if isinstance(outputs, torch.Tensor) else tuple(outputs)


def relative(got: torch.Tensor, wanted: torch.Tensor) -> float:
    """Largest difference, as a multiple of the largest value; infinite for another shape."""
    if got.shape != wanted.shape:
        return float("inf")
    return float((got - wanted).abs().max() / wanted.abs().max().clamp_min(1e-6))


def first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--nets", nargs="+", default=[], help="only these")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULTS / "zoo_and_onnx.json")
    options = parser.parse_args()
    threads = set_threads(options.threads)
    files = {path.name: path for path in sorted(options.folder.glob("*.onnx")) if not path.name.startswith("silero")}
    rows: list[dict[str, Any]] = []
    for name in options.nets or [*ZOO, *files]:
        module, graph = from_file(files[name]) if name in files else from_zoo(name)
        for target in TARGETS:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                rows.append({"net": name, "target": target, "ours": ours(graph, target), "torch_pruning": theirs(module, graph, target)})
            print(rows[-1], file=sys.stderr, flush=True)
        tally = {tool: dict(Counter(row[tool]["outcome"] for row in rows)) for tool in ("ours", "torch_pruning")}
        write(options.output, {**heading(threads, "torch-pruning"), "outcomes": tally, "rows": rows})


if __name__ == "__main__":
    main()
