"""RegNetX (Radosavovic et al., "Designing Network Design Spaces", 2020) at 200 million MACs, for CIFAR.

With a stem of 64 channels, as in the form that is commonly published for CIFAR-10: 2,321,946 parameters.
"""

from __future__ import annotations

from torch import nn

from compresskit.models.zoo.architecture import Naming, architecture, scaled
from compresskit.models.zoo.layers import activated, conv, global_pool, named
from compresskit.models.zoo.resnext import GroupedBottleneck

_NAMING = Naming(stem="stem.0.weight", head="classifier.weight", unit="stem.0.weight")
_GROUP_WIDTH = 8
# Table 10's REGNETX-200MF: of each stage the blocks and the groups of 8 channels. The first stage has stride 1 here, as the stem has.
_STAGES = ((1, 3), (1, 7), (4, 19), (7, 46))


@architecture("regnetx_200mf", "RegNetX-200MF (Radosavovic et al. 2020)", _NAMING)
def regnetx_200mf(*, classes: int = 10, in_channels: int = 3, width: float = 1.0) -> nn.Sequential:
    """Four stages of bottlenecks that do not narrow; `width` scales the channels of a group, of which there are as many as before."""
    unit = scaled(_GROUP_WIDTH, width)
    inputs = 8 * unit
    stages: dict[str, nn.Module] = {"stem": activated(conv(in_channels, inputs, 3))}
    for index, (repeats, groups) in enumerate(_STAGES):
        outputs = groups * unit
        blocks = []
        for repeat in range(repeats):
            blocks.append(GroupedBottleneck(inputs, outputs, outputs, groups, 2 if index > 1 and not repeat else 1))
            inputs = outputs
        stages[f"stage{index + 1}"] = nn.Sequential(*blocks)
    return named(**stages, pool=global_pool(), classifier=nn.Linear(inputs, classes))
