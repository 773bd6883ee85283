"""What a curve of accuracy over MACs says, as data that turns into JSON and back; free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from compresskit.errors import CompresskitError, InputError
from compresskit.report import Measure, ModelReport, Output, Parity, Skipped


@dataclass(frozen=True)
class CurvePoint:
    """One model of a curve.

    Attributes:
        asked, reached: fraction of the MACs that was to stay, and that stays.
        out_of_reach: whether not even cutting all that may be cut would have been enough.
        digest: SHA-256 of the file, by which it is known again.
    """

    asked: float
    reached: float
    out_of_reach: bool
    measure: Measure
    parity: Parity
    output: Output
    digest: str
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CurveReport(ModelReport):
    """What one `prune --curve` did.

    Attributes:
        digest: SHA-256 of the whole model in ONNX form, by which it is known again.
        whole: the whole model.
        points: by falling MACs.
    """

    digest: str
    whole: Measure
    points: tuple[CurvePoint, ...] = ()


@dataclass(frozen=True)
class CurveOutcome:
    """What a run gives back; `failure` is what the command must end with although there is a report: a point that was out of reach."""

    report: CurveReport
    failure: CompresskitError | None = None


def read_report(path: Path) -> CurveReport | None:
    """What an earlier run left at `path`; None where there is nothing.

    Raises:
        InputError: it cannot be read, or is no report of a curve.
    """
    try:
        return CurveReport.from_json(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    except InputError as error:
        raise InputError(f"{path} does not say how far a curve is: {error}; remove it to start again") from error
