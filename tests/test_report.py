from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compresskit import runtime
from compresskit.errors import InputError
from compresskit.json_report import SCHEMA_VERSION
from compresskit.report import CommandReport, Measure, ModelInfo, Report

st.register_type_strategy(float, st.floats(allow_nan=False, allow_infinity=False))
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
REPORTS = st.builds(Report, versions=..., settings=st.dictionaries(st.text(), JSON_VALUES, max_size=3), stages=..., warnings=..., outputs=...)

MEASURE = Measure(macs=10, parameters=5, bytes=20, peak_activation_bytes=8)
REPORT = Report(
    command="prune",
    arguments=("prune", "m.onnx"),
    versions={"python": "3.11"},
    seed=1,
    device="cpu",
    threads=2,
    model=ModelInfo("m.onnx", None, ()),
    settings={},
    target=None,
    before=MEASURE,
    after=MEASURE,
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(REPORTS)
def test_a_report_survives_json(report: Report) -> None:
    assert Report.from_json(report.to_json()) == report


def test_the_schema_version_comes_first() -> None:
    assert next(iter(json.loads(REPORT.to_json()).items())) == ("schema_version", SCHEMA_VERSION)


def test_what_was_found_stands_between_what_every_report_says() -> None:
    names = list(json.loads(REPORT.to_json()))
    assert names[1:7] == ["command", "arguments", "versions", "seed", "threads", "settings"]
    assert names[-4:] == ["parity", "stages", "warnings", "outputs"]


def test_a_command_that_draws_nothing_has_no_seed() -> None:
    report = CommandReport(command="decode", arguments=(), seed=None, threads=1, settings={})
    assert CommandReport.from_json(report.to_json()) == report
    assert report.versions == runtime.versions()


def test_names_that_are_no_unicode_survive() -> None:
    """File names on POSIX are bytes; Python spells the odd ones with surrogates, which no UTF-8 file can hold."""
    report = Report(**{**vars(REPORT), "arguments": ("caf\udce9.onnx",)})
    assert Report.from_json(report.to_json().encode().decode()) == report


def test_a_figure_that_is_not_finite_is_a_fault() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        Report(**{**vars(REPORT), "stages": {"train": float("nan")}}).to_json()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "schema version 2 is unknown"),
        ({"schema_version": None}, "schema version None is unknown"),
        ({"schema_version": True}, "schema version True is unknown"),
        ({"seed": "1"}, "report.seed: expected int, found str"),
        ({"seed": True}, "report.seed: expected int, found bool"),
        ({"seed": 1.5}, "report.seed: expected int, found float"),
        ({"seed": None}, "report.seed: expected int, found NoneType"),
        ({"before": []}, "report.before: expected dict, found list"),
        ({"before": {"macs": 1}}, "report.before: field 'parameters' is missing"),
        ({"layers": {}}, "report.layers: expected list, found dict"),
        ({"skipped": [{"group": "a", "reason": 3}]}, r"report.skipped\[0\].reason: expected str, found int"),
        ({"stages": {"train": "long"}}, "report.stages.train: expected number, found str"),
        ({"surprise": 1}, "report: unknown field 'surprise'"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], message: str) -> None:
    body = {**json.loads(REPORT.to_json()), **change}
    with pytest.raises(InputError, match=message):
        Report.from_json(json.dumps(body))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "[" * 100_000, '{"schema_version": 1}'])
def test_what_is_no_report_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        Report.from_json(text)


@given(st.text(max_size=50))
def test_any_text_is_read_or_refused(text: str) -> None:
    with pytest.raises(InputError):
        Report.from_json(text)
