"""NIfTI headers for other voxels of the same scan; every field that does not place or count them stays as it was."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compresskit.errors import InputError, UsageError
from compresskit.wording import first_line

_NIFTI1_BYTES = 348


@dataclass(frozen=True)
class Placing:
    """Voxels in terms of those that a header describes.

    Attributes:
        shape: (x, y, z, t) of them.
        start: where the first one's centre is, along x, y and z in the old voxels' edges from the old first one's centre.
        scale: how many of them fit into an old voxel's edge.
        frame: the old number of the first volume in time.
    """

    shape: tuple[int, ...]
    start: tuple[float, ...]
    scale: int = 1
    frame: int = 0


def placed(header: bytes, placing: Placing) -> bytes:
    """The bytes of a NIfTI-1 or NIfTI-2 header for other voxels, which stay where they are in space.

    Raises:
        InputError: the header is damaged.
        UsageError: it has no room for so many voxels.
    """
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    try:
        parsed = (Nifti1Header if len(header) == _NIFTI1_BYTES else Nifti2Header)(header, check=False)
        fields = parsed.structarr
        qform = parsed.get_qform() if fields["qform_code"] > 0 else None
    except Exception as error:  # nibabel raises a dozen kinds for hostile fields
        raise InputError(f"damaged metadata: no NIfTI header to change ({first_line(error)})") from error
    if max(placing.shape) > np.iinfo(fields["dim"].dtype).max:
        raise UsageError(f"a NIfTI-1 file cannot hold {max(placing.shape)} voxels in a row: choose a smaller --scale")
    with np.errstate(all="ignore"):  # what is not finite stays so
        _place(fields, qform, placing)
    return bytes(parsed.binaryblock)


def _place(fields: NDArray[np.void], qform: NDArray[np.float64] | None, placing: Placing) -> None:
    used = max([int(fields["dim"][0]), *(axis for axis, size in enumerate(placing.shape, start=1) if size > 1)])
    fields["dim"][0] = used
    fields["dim"][1 : min(used, 4) + 1] = placing.shape[: min(used, 4)]
    start = np.array(placing.start)
    if qform is not None:
        for name, offset in zip(("qoffset_x", "qoffset_y", "qoffset_z"), qform[:3, :3] @ start, strict=True):
            fields[name] += offset
    if fields["sform_code"] > 0:
        for name in ("srow_x", "srow_y", "srow_z"):
            row = fields[name].astype(np.float64)
            fields[name] = [*row[:3] / placing.scale, row[3] + row[:3] @ start]
    fields["pixdim"][1:4] /= placing.scale
    if placing.frame:
        fields["toffset"] += placing.frame * fields["pixdim"][4]
