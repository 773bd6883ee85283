"""What ends a command because quality fell."""

from __future__ import annotations

from compresskit.errors import GuardError
from compresskit.report import Accuracy


def accuracy_guard(allowed: float | None, before: Accuracy | None, after: Accuracy | None) -> GuardError | None:
    """The error of `--max-drop`, where accuracy fell (or an error rose, as a fraction of what it was) by more than `allowed`; else None."""
    if allowed is None or before is None or after is None:
        return None
    lost, limit = before.merit - after.merit, allowed * before.value if before.is_error else allowed
    if lost <= limit:
        return None
    what = "the error rose" if before.is_error else "accuracy fell"
    values = f"{before.value:.4f} to {after.value:.4f}, by {lost:.4f}"
    return GuardError(f"{what} from {values} where --max-drop allows {limit:.4g}: train longer, or allow more")
