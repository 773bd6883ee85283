"""The table of trials: what compressing did to which model, one row a trial, as a csv file that ships.

Two files in one folder: `problems.csv`, a row a pair of model and data set with its features, and `trials.csv`, a row a trial.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from compresskit.errors import InputError
from compresskit.recommend.settings import Setting
from compresskit.writers import write_bytes

TRIALS_SCHEMA = 1
TRIALS, PROBLEMS = "trials.csv", "problems.csv"
_MAX_BYTES = 100_000_000


@dataclass(frozen=True)
class Problem:
    """A trained model and a data set (Meta Compression, section 3.1), as far as predictions need them.

    Attributes:
        name: unique in a table.
        model: what was compressed: "resnet20"; splits into training and test architectures go by it.
        data: the data set's name.
        original: the quality of the model as it is: accuracy, or RMSE.
        trivial: the quality of the best constant answer.
        features: by name; NaN where one is not known.
    """

    name: str
    model: str
    data: str
    original: float
    trivial: float
    features: Mapping[str, float]

    def retained(self, quality: float) -> float:
        """Which part of what the model has over the best constant answer `quality` keeps: 1 for all of it, 0 for none.

        It means the same for accuracies, for errors, and for any number of classes.
        """
        return (quality - self.trivial) / (self.original - self.trivial)

    @property
    def hopeless(self) -> bool:
        """Whether the model is no better than the best constant answer, so that no part of what it has over that can be kept."""
        error = not math.isnan(self.features.get("rmse", math.nan))
        return self.original >= self.trivial if error else self.original <= self.trivial

    @property
    def higher_is_better(self) -> bool:
        """Whether qualities are accuracies, and not errors; of a problem that is not hopeless."""
        return self.original > self.trivial

    def quality(self, retained: float) -> float:
        """The inverse of `retained`."""
        return self.trivial + retained * (self.original - self.trivial)


@dataclass(frozen=True)
class Trial:
    """One setting, tried.

    Attributes:
        problem: name of the problem.
        quality: of the compressed model on test samples that no choice saw.
        kept: fraction of the parameters that are there and not zero.
        seconds: that it took, CPU time.
        budget: name of the training budget.
    """

    problem: str
    setting: Setting
    quality: float
    kept: float
    seconds: float
    budget: str

    @property
    def compression(self) -> float:
        """As reached, where the setting says what was asked for."""
        return 32 / self.setting.bits / max(self.kept, 1e-9)


@dataclass(frozen=True)
class Table:
    """Trials, and the problems that they name.

    Attributes:
        ignored: rows of files that were of another schema.
    """

    problems: Mapping[str, Problem]
    trials: tuple[Trial, ...]
    ignored: int = 0


_TRIAL_COLUMNS = ("schema", "problem", *(field.name for field in fields(Setting)), "quality", "kept", "seconds", "budget")
_PROBLEM_COLUMNS = ("schema", "name", "model", "data", "original", "trivial")


def write_table(table: Table, folder: Path, *, force: bool = False) -> None:
    """Write both files; each is complete or absent.

    Raises:
        OutputError: one cannot be written.
    """
    names = sorted({name for problem in table.problems.values() for name in problem.features})
    problems = [_problem_row(problem, names) for problem in table.problems.values()]
    trials = [_trial_row(trial) for trial in table.trials]
    write_bytes(folder / PROBLEMS, _csv((*_PROBLEM_COLUMNS, *names), problems), force=force)
    write_bytes(folder / TRIALS, _csv(_TRIAL_COLUMNS, trials), force=force)


def read_table(folder: Path) -> Table:
    """Read what `write_table` wrote; rows of another schema are counted, not read.

    Raises:
        InputError: a file is missing, too large, or holds what is no number where one belongs.
    """
    problem_rows, old_problems = _rows(folder / PROBLEMS, _PROBLEM_COLUMNS)
    trial_rows, old_trials = _rows(folder / TRIALS, _TRIAL_COLUMNS)
    try:
        problems = {row["name"]: _problem(row) for row in problem_rows}
        trials = tuple(_trial(row) for row in trial_rows if row["problem"] in problems)
    except (ValueError, TypeError) as error:
        raise InputError(f"{folder}: a damaged table of trials: {error}") from error
    return Table(problems, trials, old_problems + old_trials + len(trial_rows) - len(trials))


def merged(tables: Iterable[Table]) -> Table:
    """One table of all rows; of two trials of the same setting of a problem, the later."""
    problems: dict[str, Problem] = {}
    trials: dict[tuple[str, Setting, str], Trial] = {}
    ignored = 0
    for table in tables:
        problems.update(table.problems)
        trials.update({(trial.problem, trial.setting, trial.budget): trial for trial in table.trials})
        ignored += table.ignored
    return Table(problems, tuple(trials.values()), ignored)


def _problem_row(problem: Problem, names: Iterable[str]) -> list[object]:
    figures = (problem.original, problem.trivial, *(problem.features.get(name, math.nan) for name in names))
    return [TRIALS_SCHEMA, problem.name, problem.model, problem.data, *map(_text, figures)]


def _trial_row(trial: Trial) -> list[object]:
    setting = [getattr(trial.setting, field.name) for field in fields(Setting)]
    return [TRIALS_SCHEMA, trial.problem, *setting, *map(_text, (trial.quality, trial.kept, trial.seconds)), trial.budget]


def _problem(row: Mapping[str, str]) -> Problem:
    features = {name: float(value) for name, value in row.items() if name not in _PROBLEM_COLUMNS}
    return Problem(row["name"], row["model"], row["data"], _finite(row["original"]), _finite(row["trivial"]), features)


def _trial(row: Mapping[str, str]) -> Trial:
    setting = Setting(row["pruner"], row["quantizer"], float(row["sparsity"]), int(row["bits"]))
    return Trial(row["problem"], setting, _finite(row["quality"]), _finite(row["kept"]), _finite(row["seconds"]), row["budget"])


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} where a finite number belongs")
    return value


def _rows(path: Path, columns: tuple[str, ...]) -> tuple[list[dict[str, str]], int]:
    """Rows of the current schema, and the number of others."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{path}: larger than a table of trials can be ({_MAX_BYTES} bytes)")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: no table of trials: {error}") from error
    reader = csv.DictReader(io.StringIO(text))
    if not set(columns) <= set(reader.fieldnames or ()):
        raise InputError(f"{path}: no table of trials: expected the columns {', '.join(columns)}")
    rows = list(reader)
    if any(None in row or None in row.values() for row in rows):
        raise InputError(f"{path}: a damaged table of trials: a row is longer or shorter than its head")
    current = [row for row in rows if row["schema"] == str(TRIALS_SCHEMA)]
    return current, len(rows) - len(current)


def _csv(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode()


def _text(value: float) -> str:
    return format(value, ".6g")
