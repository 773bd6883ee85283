"""What ends a command because quality fell."""

from __future__ import annotations

from compresskit.errors import GuardError
from compresskit.report import Accuracy


def accuracy_guard(allowed: float | None, before: Accuracy | None, after: Accuracy | None) -> GuardError | None:
    """The error of `--max-drop`, where accuracy fell (or an error rose, as a fraction of what it was) by more than `allowed`; else None."""
    if allowed is None or before is None or after is None:
        return None
    error = before.metric == "rmse"
    rise, allowed = (after.value - before.value, allowed * before.value) if error else (before.value - after.value, allowed)
    if rise <= allowed:
        return None
    what = "the error rose" if error else "accuracy fell"
    return GuardError(
        f"{what} from {before.value:.4f} to {after.value:.4f}, by {rise:.4f} where --max-drop allows {allowed:.4g}: no model was written"
    )
