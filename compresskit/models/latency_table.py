"""A table of how long operators take at a grid of widths, and its file: JSON with a schema version."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from compresskit.errors import InputError
from compresskit.json_report import JsonReport
from compresskit.models.latency_operators import KINDS, Operator, Use, fingerprint
from compresskit.models.latency_surface import Stack

WIDEST = 1 << 24  # of an operator: whatever says more is damaged
MOST_POINTS = 256  # of an axis; we measure a tenth of that
MOST = 1 << 12  # threads, and samples of a batch

SHORTEST = 1e-6  # milliseconds of a whole model: a nanosecond is what clocks count in
LONGEST = 1e9


@dataclass(frozen=True)
class Entry:
    """Times of one operator.

    Attributes:
        inputs, outputs: the widths that were measured, ascending.
        ms: (inputs, outputs) milliseconds, as they were measured.

    Raises:
        InputError: it contradicts itself.
    """

    operator: Operator
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    ms: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        if self.operator.kind not in KINDS:
            raise InputError(f"an operator of unknown kind {self.operator.kind!r}: expected one of {', '.join(KINDS)}")
        for widths in (self.inputs, self.outputs):
            if len(widths) > MOST_POINTS:
                raise InputError(f"{self.operator}: {len(widths)} widths along one axis, where {MOST_POINTS} is the most")
            if not widths or widths[0] < 1 or widths[-1] > WIDEST or any(one >= two for one, two in itertools.pairwise(widths)):
                raise InputError(f"{self.operator}: its widths do not ascend from 1 or more to {WIDEST} or fewer")
        if len(self.ms) != len(self.inputs) or any(len(row) != len(self.outputs) for row in self.ms):
            raise InputError(f"{self.operator}: expected a time for each of {len(self.inputs)} x {len(self.outputs)} widths")
        if not all(0 <= value <= LONGEST for row in self.ms for value in row):
            raise InputError(f"{self.operator}: a time is not between 0 and {LONGEST:g} ms")

    def covers(self, use: Use) -> bool:
        return use.inputs <= self.inputs[-1] and use.outputs <= self.outputs[-1]


@dataclass(frozen=True)
class Whole:
    """Times of one whole model.

    Attributes:
        ms: milliseconds of one run, end to end: with what any run costs, as users measure it.
        operators_ms: the sum of its operators by the table: without.
    """

    ms: float
    operators_ms: float

    def __post_init__(self) -> None:
        if not all(SHORTEST <= value <= LONGEST for value in (self.ms, self.operators_ms)):
            raise InputError(f"the time of a model is not between {SHORTEST:g} and {LONGEST:g} ms")


@dataclass(frozen=True)
class Table(JsonReport):
    """What one machine takes for operators at one batch.

    Attributes:
        machine: its processor, for messages.
        onnxruntime: the version that was timed.
        models: whole models by `fingerprint`.
    """

    machine: str
    onnxruntime: str
    threads: int
    batch: int
    entries: tuple[Entry, ...]
    models: dict[str, Whole]

    def __post_init__(self) -> None:
        if not 0 <= self.threads <= MOST or not 1 <= self.batch <= MOST:
            raise InputError(f"expected 0 to {MOST} threads and a batch of 1 to {MOST}, found {self.threads} threads at batch {self.batch}")
        if len(self.by_operator) != len(self.entries):
            raise InputError("an operator occurs twice")

    @cached_property
    def by_operator(self) -> Mapping[Operator, Entry]:
        return {entry.operator: entry for entry in self.entries}

    def lacks(self, calls: Iterable[Use]) -> list[Use]:
        """Those of `calls` that it has no times for, or none for widths so large."""
        return [use for use in calls if use.operator not in self.by_operator or not self.by_operator[use.operator].covers(use)]

    def check(self, calls: Sequence[Use]) -> None:
        """Make sure that it tells how long the model that makes `calls` takes.

        Raises:
            InputError: it has no times of some calls, and the message names one; or their times come to nothing, which no cut makes less.
        """
        whole = self.whole(calls)
        predicted = self.summed(calls) * whole.ms / whole.operators_ms
        if calls and predicted < SHORTEST:
            raise InputError(
                f"the operators of this model take {predicted:.3g} ms in all, where no clock tells less than {SHORTEST:g}: "
                "measure a table again with --measure-table, or give another target than --latency"
            )

    def stack(self, calls: Sequence[Use]) -> Stack:
        """The times of `calls`.

        Raises:
            InputError: it has no times of some; the message names one.
        """
        if missing := self.lacks(calls):
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise InputError(f"no times of {missing[0]}{more}: measure a table of this model with --measure-table")
        entries = [self.by_operator[use.operator] for use in calls]
        return Stack.of([(entry.inputs, entry.outputs, np.array(entry.ms)) for entry in entries])

    def summed(self, calls: Sequence[Use]) -> float:
        """Milliseconds of all `calls`, one after another."""
        inputs, outputs = (np.array([getattr(use, side) for use in calls], dtype=np.float64) for side in ("inputs", "outputs"))
        return float(self.stack(calls)(inputs, outputs).sum())

    def multiple(self, calls: Iterable[Use]) -> int:
        """The multiple that the runtime rewards in `calls`: 8 or 16 channels, or 32 where neither saves half of what its multiply-adds promise.

        Compares widths that are multiples of it, but of nothing larger, with the next wider ones (as `compresskit.models.latency.preferred_multiple`
        does at one width): a runtime of larger blocks gains nothing there.
        """
        entries = [self.by_operator[use.operator] for use in calls]
        for block in (8, 16):
            saved = promised = 0.0
            for entry in entries:
                for (narrow, before), (wide, after) in itertools.pairwise(zip(entry.outputs, entry.ms[-1], strict=True)):
                    if narrow % (2 * block) == block:
                        saved += after - before
                        promised += after * (wide - narrow) / wide
            if saved >= promised / 2 > 0:
                return block
        return 32

    def whole(self, calls: Sequence[Use]) -> Whole:
        """The times of the model that makes `calls`, at these or other widths; where it was not measured, the sum of its operators."""
        summed = max(self.summed(calls), SHORTEST)
        return self.models.get(fingerprint(calls)) or Whole(summed, summed)
