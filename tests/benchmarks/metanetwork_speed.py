"""Rewriting ResNet-56 by 8 layers of width 64: dense blocks beside the edge list that message passing is usually written with.

    python tests/benchmarks/metanetwork_speed.py

Each way runs in a process of its own, once to warm up and then `--repeats` times, from the network's tensors to its new tensors; their results
are compared. Memory is the process's highest, libraries included. Then the graph of every network of the zoo: is what is written back what was read?
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import common
import torch
from torch import Tensor

from compresskit.metaprune.features import features, parameters
from compresskit.metaprune.graph import layout_of
from compresskit.metaprune.layout import Layout
from compresskit.metaprune.network import Metanetwork, MetanetworkConfig, rewrite
from compresskit.metaprune.pna import EPSILON, MessagePassing
from compresskit.models.graph import ModelGraph, TensorSpec
from compresskit.models.lift import graph_from_module
from compresskit.models.zoo import ARCHITECTURES, build

Tensors = dict[str, Tensor]
Way = Callable[[Metanetwork, Layout, Tensors], Tensors]
Layer = Callable[[MessagePassing, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]

CONFIG = MetanetworkConfig(layers=8, width=64)
WAYS = ("blocks", "edge list", "edge list, as written", "blocks, gradients", "edge list, gradients")
"""As written: MLPs run once an edge, as equations 14 to 19 have it; otherwise once a node. Gradients: by every weight of the metanetwork too."""


def network(name: str) -> tuple[ModelGraph, Tensors]:
    """A network of the zoo with the same weights in every run, and its tensors."""
    torch.manual_seed(0)
    architecture = ARCHITECTURES[name]
    graph = graph_from_module(build(name), [TensorSpec("x", (None, *architecture.input_shape), architecture.dtype)], source=name)
    return graph, {name: tensor.detach() for name, tensor in (*graph.module.named_parameters(), *graph.module.named_buffers())}


def by_edges(metanetwork: Metanetwork, layout: Layout, tensors: Tensors, *, layer_of: Layer) -> Tensors:
    """`rewrite` with one row an edge: both ends are gathered for every edge, and messages scattered back."""
    nodes, blocks = features(layout, tensors)
    ends = torch.cat([_ends(block.sources, block.targets) for block in layout.blocks], dim=1)
    hidden = metanetwork.node_encoder(nodes)
    mixed = [(values @ metanetwork.tap_encoder(block.taps)).flatten(0, 2) for block, values in zip(layout.blocks, blocks, strict=True)]
    edges = metanetwork.edge_encoder(torch.cat(mixed).T).T
    for layer in metanetwork.layers:
        hidden, edges = layer_of(layer, hidden, edges, *ends)
    decoded = metanetwork.edge_decoder(edges.T).T
    changed = []
    for block, values, deep in zip(layout.blocks, blocks, decoded.split([values[..., 0].numel() for values in blocks]), strict=True):
        columns, offset = metanetwork.tap_decoder(block.taps).split([CONFIG.width, 1], dim=1)
        changed.append(values + CONFIG.edge_scale * (deep @ columns.T + offset.T).view(values.shape))
    return parameters(layout, nodes + CONFIG.node_scale * metanetwork.node_decoder(hidden), changed)


def _ends(sources: Tensor, targets: Tensor) -> Tensor:
    """(2, edges) of one block."""
    return torch.stack(torch.broadcast_tensors(sources[:, None, :], targets[:, :, None])).flatten(1)


def once_a_node(layer: MessagePassing, nodes: Tensor, edges: Tensor, i: Tensor, j: Tensor) -> tuple[Tensor, Tensor]:
    """Equations 14 to 19, the MLPs before the nodes are gathered: (N, width) and (E, width) to the same."""
    inverted = edges * layer.inverter[:, 0]
    sender, receiver = layer.sender(nodes), layer.receiver(nodes)
    ahead = _aggregated(sender[i] * receiver[j] * edges, j, len(nodes))
    back = _aggregated(sender[j] * receiver[i] * inverted, i, len(nodes))
    nodes = nodes + layer.aggregate(ahead) + layer.aggregate(back)
    first, second = layer.edge_first(nodes), layer.edge_second(nodes)
    return nodes, edges + first[i] * second[j] * edges + first[j] * second[i] * inverted


def once_an_edge(layer: MessagePassing, nodes: Tensor, edges: Tensor, i: Tensor, j: Tensor) -> tuple[Tensor, Tensor]:
    """Equations 14 to 19 as they are written: (N, width) and (E, width) to the same."""
    inverted = edges * layer.inverter[:, 0]
    ahead = _aggregated(layer.sender(nodes[i]) * layer.receiver(nodes[j]) * edges, j, len(nodes))
    back = _aggregated(layer.sender(nodes[j]) * layer.receiver(nodes[i]) * inverted, i, len(nodes))
    nodes = nodes + layer.aggregate(ahead) + layer.aggregate(back)
    changed = layer.edge_first(nodes[i]) * layer.edge_second(nodes[j]) * edges
    return nodes, edges + changed + layer.edge_first(nodes[j]) * layer.edge_second(nodes[i]) * inverted


def _aggregated(messages: Tensor, receivers: Tensor, count: int) -> Tensor:
    """Equation 18: (E, width) to (count, 4 * width)."""
    zeros, place = messages.new_zeros(count, messages.shape[1]), receivers[:, None].expand_as(messages)
    number = torch.bincount(receivers, minlength=count)[:, None]
    mean, square = (zeros.index_add(0, receivers, values) / number.clamp(min=1) for values in (messages, messages.square()))
    spread = ((square - mean.square()).clamp(min=0) + EPSILON).sqrt() * (number > 0)
    highest, lowest = (zeros.scatter_reduce(0, place, messages, how, include_self=False) for how in ("amax", "amin"))
    return torch.cat([mean, spread, highest, lowest], dim=1)


def measure(way: Way, name: str, gradients: bool, repeats: int, kept: Path) -> dict[str, Any]:
    """Seconds and memory of one way, whose result goes to `kept`."""
    torch.set_num_threads(1)
    graph, tensors = network(name)
    layout = layout_of(graph)
    metanetwork = Metanetwork(CONFIG)
    wall, cpu = [], []
    for _ in range(1 + repeats):
        started = time.perf_counter(), time.process_time()
        with torch.set_grad_enabled(gradients):
            new = way(metanetwork, layout, tensors)
            if gradients:
                torch.stack([tensor.square().sum() for tensor in new.values()]).sum().backward()
        wall.append(time.perf_counter() - started[0])
        cpu.append(time.process_time() - started[1])
        torch.save({name: tensor.detach() for name, tensor in new.items()}, kept)
        del new
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"cpu_seconds": min(cpu[1:]), "wall_seconds": min(wall[1:]), "peak_bytes": peak, "nodes": layout.nodes, "edges": layout.edges}


def zoo_row(name: str) -> dict[str, Any]:
    """The graph of one network of the zoo, and whether its parameters survive the trip there and back."""
    graph, tensors = network(name)
    started = time.process_time()
    layout = layout_of(graph)
    seconds = time.process_time() - started
    back = parameters(layout, *features(layout, tensors))
    listed = {skipped.group: skipped.reason for skipped in layout.skipped}
    return {
        "nodes": layout.nodes,
        "edges": layout.edges,
        "layout_cpu_seconds": round(seconds, 3),
        "parameters": sum(tensor.numel() for tensor in graph.module.parameters()),
        "exact": all(torch.equal(tensor, tensors[name]) for name, tensor in back.items()),
        "complete": back.keys() | listed.keys() == dict(graph.module.named_parameters()).keys(),
        "skipped": listed,
    }


def compare(name: str, repeats: int) -> dict[str, Any]:
    """All ways, each in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        rows = {}
        for number, way in enumerate(WAYS):
            kept = Path(folder) / f"{number}.pt"
            command = [sys.executable, __file__, "--way", way, "--network", name, "--repeats", str(repeats), "--keep", str(kept)]
            rows[way] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            print(way, rows[way], flush=True)
        ours, theirs = (torch.load(Path(folder) / f"{number}.pt") for number in (0, 1))
    seconds = {way: row["cpu_seconds"] for way, row in rows.items()}
    return {
        "ways": rows,
        "largest_difference": max(float((ours[name] - theirs[name]).abs().max()) for name in ours),
        "times_faster": seconds["edge list"] / seconds["blocks"],
        "times_faster_than_as_written": seconds["edge list, as written"] / seconds["blocks"],
        "times_faster_with_gradients": seconds["edge list, gradients"] / seconds["blocks, gradients"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet56")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--keep", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        torch.manual_seed(1)
        edges = partial(by_edges, layer_of=once_an_edge if "as written" in options.way else once_a_node)
        way = rewrite if options.way.startswith("blocks") else edges
        print(json.dumps(measure(way, options.network, "gradients" in options.way, options.repeats, options.keep)))
        return
    result = {**common.heading(1), "config": {"layers": CONFIG.layers, "width": CONFIG.width}, "network": options.network}
    result |= compare(options.network, options.repeats)
    result["zoo"] = {name: zoo_row(name) for name in ARCHITECTURES}
    common.write(common.RESULTS / "metanetwork_speed.json", result)


if __name__ == "__main__":
    main()
