"""What a training step under the surrogate costs over a plain one: `python tests/benchmarks/surrogate_step.py WEIGHTS CIFAR10.npz`.

Processor time of whole updates of the published ResNet-20, plain and with masks and their control, in turns, so that a busy machine slows
both alike; medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from cifar import load, published
from common import RESULTS, heading, write
from torch import nn

from compresskit.data import batches
from compresskit.pruning.config import Target
from compresskit.pruning.goal import set_goal
from compresskit.pruning.groups import find_groups
from compresskit.pruning.surrogate.control import Control
from compresskit.pruning.surrogate.cost import Surrogate
from compresskit.pruning.surrogate.learn import TRAVEL, starting
from compresskit.pruning.surrogate.masks import Masked, parameter_groups
from compresskit.pruning.surrogate.norms import NORMS
from compresskit.runtime import seed_everything, set_threads
from compresskit.training.objectives import supervised

BATCH = 128
LIMIT = 1.15  # what the issue of this method allows


def updates(module: nn.Module, groups: list[dict[str, object]], after_step: Callable[[int], None] = lambda _: None) -> Callable[..., float]:
    """A function that makes one update and gives its processor seconds."""
    optimizer = torch.optim.SGD(groups, lr=0.02, momentum=0.9, nesterov=True, weight_decay=5e-4)
    objective = supervised()
    module.train().to(memory_format=torch.channels_last)

    def update(step: int, x: torch.Tensor, y: torch.Tensor) -> float:
        began = time.process_time()
        optimizer.zero_grad()
        objective(module, x, y).backward()
        optimizer.step()
        after_step(step)
        return time.process_time() - began

    return update


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS / "surrogate_step.json")
    options = parser.parse_args()
    threads = set_threads(options.threads)
    seed_everything(0)
    graph, data = published(options.weights), load(options.data)
    prunable = find_groups(graph)
    goal = set_goal(graph, Target("flops", 0.33))
    masked = Masked(prunable, torch.cat([starting(torch.rand(group.size)) for group in prunable.groups]), torch.zeros(64, 3))
    floors = torch.ones(len(prunable.groups))
    control = Control(masked, Surrogate(prunable, goal.cost(prunable)), NORMS["l1l2"], goal.limit, floors, options.steps, TRAVEL / options.steps)
    under = updates(masked, parameter_groups(masked, TRAVEL / options.steps), control)
    plain = updates(graph.module, [{"params": list(graph.module.parameters())}])
    seconds: dict[str, list[float]] = {"plain": [], "surrogate": []}
    order = torch.Generator().manual_seed(0)
    for step, (x, y) in enumerate(batches(data.train, data.normalization, BATCH, shuffle=order), start=1):
        if step > options.steps:
            break
        x = x.to(memory_format=torch.channels_last)
        seconds["plain"].append(plain(step, x, y))
        seconds["surrogate"].append(under(step, x, y))
    medians = {name: round(statistics.median(values[2:]), 4) for name, values in seconds.items()}  # without warming up
    ratio = round(statistics.median(b / a for a, b in list(zip(*seconds.values(), strict=True))[2:]), 3)
    result = {"network": "resnet20", "batch": BATCH, "steps": options.steps, "median_seconds": medians, "ratio": ratio, "limit": LIMIT}
    write(options.output, {**heading(threads), **result})
    print(result)


if __name__ == "__main__":
    main()
