"""What `quantize --robust` says it did, as data that turns into JSON and back."""

from __future__ import annotations

from dataclasses import dataclass

from compresskit.errors import CompresskitError
from compresskit.report import Accuracy, ModelReport


@dataclass(frozen=True)
class Trial:
    """One training of the last epochs.

    Attributes:
        strength: of the penalty; 0: none.
        accuracy: on the validation split, of the float network; of numbers the root mean squared error; None: training diverged.
        penalty_before, penalty_after: means over a few batches.
        held: whether the accuracy is the one that the network had before.
        seconds: that a step took, its share of the validations included.
    """

    strength: float
    accuracy: float | None
    penalty_before: float
    penalty_after: float
    held: bool
    seconds: float


@dataclass(frozen=True, kw_only=True)
class RobustReport(ModelReport):
    """What one `quantize --robust` did.

    Attributes:
        strength: of the penalty in the network that was kept; 0: none.
        trials: that without a penalty first.
        before, after: accuracy of the float networks.
    """

    strength: float
    trials: tuple[Trial, ...]
    before: Accuracy
    after: Accuracy


@dataclass(frozen=True)
class RobustOutcome:
    """What a run gives back.

    Attributes:
        standard_output: the ONNX bytes that belong on stdout, where "-" was among the outputs.
        failure: a guard that failed; the model is written all the same.
    """

    report: RobustReport
    standard_output: bytes | None = None
    failure: CompresskitError | None = None
