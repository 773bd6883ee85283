"""What to prune before training: one registered function a saliency, scores of weights or of channels out.

A new saliency is one file with a function under `@saliency(name, granularities..., needs_data=...)`, imported here.
"""

from __future__ import annotations

from compresskit.pruning.at_init import controls, force, grasp, prospr, sensitivity, synflow  # noqa: F401  imported to register
from compresskit.pruning.at_init.base import SALIENCIES, Saliency, Scores, Task, saliency
from compresskit.pruning.at_init.choice import Choice, choose_weights, narrowest, share_of_weights
from compresskit.pruning.at_init.compute import SMOOTHING, compute_aware
from compresskit.pruning.at_init.initialization import reinit, rescale
from compresskit.pruning.at_init.masks import ChannelMasks, WeightMasks
from compresskit.pruning.at_init.sampling import balanced_batches

__all__ = [
    "SALIENCIES",
    "SMOOTHING",
    "ChannelMasks",
    "Choice",
    "Saliency",
    "Scores",
    "Task",
    "WeightMasks",
    "balanced_batches",
    "choose_weights",
    "compute_aware",
    "narrowest",
    "reinit",
    "rescale",
    "saliency",
    "share_of_weights",
]
