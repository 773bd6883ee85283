"""What a saliency has to beat: chance, and the size of the weights."""

from __future__ import annotations

import torch

from compresskit.pruning.at_init.base import Scores, Task, require_signal, saliency
from compresskit.pruning.at_init.masks import ChannelMasks
from compresskit.pruning.at_init.network import weights_of
from compresskit.pruning.criteria import CRITERIA, Context


@saliency("random", "weights", "channels", needs_data=False)
def random(task: Task) -> Scores:
    """Uniform random numbers drawn from the seed: in expectation, the same fraction of every layer."""
    rng = torch.Generator().manual_seed(task.seed)
    return Scores({name: torch.rand(mask.shape, generator=rng) for name, mask in task.masks.ones().items()})


@saliency("magnitude", "weights", "channels", needs_data=False)
def magnitude(task: Task) -> Scores:
    """The absolute weight; of a channel, the criterion `l1`.

    Raises:
        TargetError: all weights of a layer are zero.
    """
    masks = task.masks.ones()
    if isinstance(task.masks, ChannelMasks):
        scores = dict(zip(masks, CRITERIA["l1"](Context(task.graph.module, task.masks.prunable.groups)), strict=True))
    else:
        weights = weights_of(task.graph.module)
        scores = {name: weights[name].abs() for name in masks}
    require_signal(scores)
    return Scores(scores)
