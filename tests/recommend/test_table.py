"""The table of trials as files."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from compresskit.errors import InputError
from compresskit.recommend.table import PROBLEMS, TRIALS, Table, merged, read_table, write_table


def test_a_table_comes_back(table: Table, tmp_path: Path) -> None:
    write_table(table, tmp_path)
    found = read_table(tmp_path)
    assert [trial.setting for trial in found.trials] == [trial.setting for trial in table.trials]
    assert all(a.quality == pytest.approx(b.quality, rel=1e-5) for a, b in zip(found.trials, table.trials, strict=True))
    for name, problem in table.problems.items():
        assert found.problems[name].features == pytest.approx(problem.features, rel=1e-5)


def test_unknown_features_stay_unknown(table: Table, tmp_path: Path) -> None:
    first = next(iter(table.problems.values()))
    unknown = replace(first, features={**first.features, "loss": math.nan})
    write_table(Table({first.name: unknown}, ()), tmp_path)
    assert math.isnan(read_table(tmp_path).problems[first.name].features["loss"])


def test_rows_of_another_schema_are_ignored_and_counted(table: Table, tmp_path: Path) -> None:
    write_table(table, tmp_path)
    lines = (tmp_path / TRIALS).read_text().splitlines()
    (tmp_path / TRIALS).write_text("\n".join([lines[0], *("9" + line[1:] for line in lines[1:4]), *lines[4:]]) + "\n")
    found = read_table(tmp_path)
    assert found.ignored == 3
    assert len(found.trials) == len(table.trials) - 3


@pytest.mark.parametrize("damage", ["", "a,b\n1,2\n", "\xff\xfe", "cut"])
@pytest.mark.parametrize("name", [TRIALS, PROBLEMS])
def test_damaged_tables_are_refused(table: Table, tmp_path: Path, name: str, damage: str) -> None:
    write_table(table, tmp_path)
    whole = (tmp_path / name).read_text()
    (tmp_path / name).write_bytes(damage.encode("latin-1") if damage != "cut" else whole[: len(whole) * 2 // 3].encode())
    with pytest.raises(InputError):
        read_table(tmp_path)


def test_a_value_that_is_no_number_is_refused(table: Table, tmp_path: Path) -> None:
    write_table(table, tmp_path)
    path = tmp_path / TRIALS
    path.write_text(path.read_text().replace(",small", ",small", 1).replace(f",{table.trials[0].quality:.6g},", ",nan,", 1))
    with pytest.raises(InputError, match="finite"):
        read_table(tmp_path)


def test_of_two_trials_the_later_counts(table: Table) -> None:
    better = replace(table.trials[0], quality=0.5)
    found = merged([table, Table({}, (better,))])
    assert len(found.trials) == len(table.trials)
    assert found.trials[0].quality == 0.5


def test_retained_is_one_for_the_original_and_zero_for_a_constant_answer(table: Table) -> None:
    problem = next(iter(table.problems.values()))
    assert problem.retained(problem.original) == 1
    assert problem.retained(problem.trivial) == 0
    assert problem.quality(problem.retained(0.42)) == pytest.approx(0.42)
    errors = replace(problem, original=0.2, trivial=1.0)  # an RMSE: lower is better
    assert errors.retained(0.3) < 1
