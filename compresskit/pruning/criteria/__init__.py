"""How much each channel matters: one registered function a criterion, scores for a list of groups out.

A new criterion is one file with a function under `@criterion(name, needs_data=...)`, imported here.
"""

from __future__ import annotations

from compresskit.pruning.criteria import controls, fpgm, hessian, lamp, magnitude, norm_scale, reconstruction, taylor  # noqa: F401  imported to register
from compresskit.pruning.criteria.base import CRITERIA, Context, Criterion, criterion
from compresskit.pruning.criteria.norm_scale import slimming_penalty
from compresskit.pruning.criteria.normalizers import NORMALIZERS, normalize

__all__ = ["CRITERIA", "NORMALIZERS", "Context", "Criterion", "criterion", "normalize", "slimming_penalty"]
