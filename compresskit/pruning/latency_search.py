"""Hitting a latency that is measured with cuts that are planned by a prediction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from compresskit.progress import SILENT, Progress
from compresskit.report import LatencyTry

CLOSE = 0.03  # a measured latency counts as hit within this fraction of the target
TRIES = 8

Plan = TypeVar("Plan")


@dataclass(frozen=True)
class Found(Generic[Plan]):
    """What a search ended with.

    Attributes:
        plan: the one that was measured nearest to the target.
        best: its try.
        tries: all of them, in order.
        met: whether `best` is within 3% of the target.
    """

    plan: Plan
    best: LatencyTry
    tries: tuple[LatencyTry, ...]
    met: bool


def closest(
    plan_at: Callable[[float], tuple[Plan, float]],
    target_ms: float,
    *,
    whole_ms: float,
    measure: Callable[[Plan], float],
    tries: int = TRIES,
    progress: Progress = SILENT,
) -> Found[Plan]:
    """The plan whose measured latency is nearest to `target_ms`. Latency hangs on widths, not on weights: this is done before any training.

    The first limit is the target, the second moves by the ratio of target and measurement. Later ones lie between the limits that came out
    below and above (false position, kept off the ends), or on the line through the first and last try where all came out on one side.
    The search ends within 3%, after `tries`, or where a plan repeats.

    Args:
        plan_at: a plan (a cut graph, say) for a limit on the predicted milliseconds, and what is predicted for it.
        whole_ms: predicted latency of the uncut model, above which there is nothing to ask for.
        measure: milliseconds of the model of a plan.
        tries: 1 or more.

    Raises:
        CompresskitError: as `plan_at` and `measure`.
    """
    progress.stage("meet the latency", tries)
    plans: list[Plan] = []
    made: list[LatencyTry] = []
    limit = min(target_ms, whole_ms)
    while len(made) < tries:
        plan, predicted = plan_at(limit)
        if any(predicted == earlier.predicted for earlier in made):
            break
        plans.append(plan)
        made.append(LatencyTry(limit, predicted, measure(plan)))
        progress.advance(predicted=predicted, measured=made[-1].measured)
        if _is_close(made[-1], target_ms):
            break
        limit = min(_next(made, target_ms), whole_ms)
    best = min(made, key=lambda entry: abs(entry.measured - target_ms))
    return Found(plans[made.index(best)], best, tuple(made), _is_close(best, target_ms))


def _is_close(entry: LatencyTry, target: float) -> bool:
    return abs(entry.measured - target) <= CLOSE * target


def _next(made: list[LatencyTry], target: float) -> float:
    """The limit to try after `made`, none of which was close."""
    below = max((entry for entry in made if entry.measured < target), key=lambda entry: entry.limit, default=None)
    above = min((entry for entry in made if entry.measured > target), key=lambda entry: entry.limit, default=None)
    if below is not None and above is not None and below.limit < above.limit:
        share = (target - below.measured) / (above.measured - below.measured)
        return below.limit + min(max(share, 0.1), 0.9) * (above.limit - below.limit)
    last = made[-1]  # all on one side, or noise
    slope = (last.measured - made[0].measured) / (last.limit - made[0].limit) if last.limit != made[0].limit else 0.0
    guess = last.limit + (target - last.measured) / slope if slope > 0 else last.limit * target / last.measured
    return min(max(guess, last.limit / 2), last.limit * 2)
