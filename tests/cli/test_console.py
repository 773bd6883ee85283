"""What is drawn where: colour, bars and log lines."""

from __future__ import annotations

import io
from typing import Any

import pytest

from compresskit.cli.bars import LogLines
from compresskit.cli.console import Console, one_line
from compresskit.progress import SILENT


class Stream(io.StringIO):
    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


def _console(terminal: bool = True, environ: dict[str, str] | None = None, **more: Any) -> Console:
    return Console(stdin=io.BytesIO(), stdout=Stream(terminal), stderr=Stream(terminal), environ=environ or {"TERM": "xterm"}, **more)


def _run(console: Console) -> str:
    with console.progress() as progress:
        progress.stage("training", 4)
        for step in range(4):
            progress.advance(loss=1 / (step + 1))
        progress.note("done")
    assert isinstance(console.stderr, Stream)
    return console.stderr.getvalue()


def test_a_bar_on_a_terminal() -> None:
    shown = _run(_console())
    assert "training" in shown
    assert "loss=" in shown
    assert "done" not in shown


@pytest.mark.parametrize("hidden", [{"terminal": False}, {"bars": False}, {"verbosity": -1}, {"environ": {"TERM": "dumb"}}])
def test_no_bar_elsewhere(hidden: dict[str, Any]) -> None:
    assert _run(_console(**hidden)) == ""


def test_notes_with_the_bar_for_those_who_ask() -> None:
    assert "compresskit: done" in _run(_console(verbosity=1))


def test_lines_in_a_log() -> None:
    assert _run(_console(terminal=False, verbosity=1)) == "compresskit: training\ncompresskit: done\n"


def test_the_silent_progress_is_the_library_s() -> None:
    with _console(terminal=False).progress() as progress:
        assert progress is SILENT


def test_a_log_line_at_most_every_ten_seconds() -> None:
    now, lines = [0.0], list[str]()
    log = LogLines(lines.append, clock=lambda: now[0])
    log.stage("training", 100)
    for _ in range(50):
        now[0] += 1
        log.advance(2, loss=0.5)
    assert lines == ["training", *(f"training {done}/100 loss=0.5" for done in (20, 40, 60, 80, 100))]


def test_a_stage_of_unknown_length() -> None:
    now, lines = [0.0], list[str]()
    log = LogLines(lines.append, clock=lambda: now[0])
    log.stage("reading")
    now[0] = 11
    log.advance(3)
    assert lines == ["reading", "reading 3"]


def test_advance_before_any_stage_draws_nothing_and_does_not_fail() -> None:
    with _console().progress() as progress:
        progress.advance()


@pytest.mark.parametrize(
    ("changes", "colored"),
    [
        ({}, True),
        ({"terminal": False}, False),
        ({"color": False}, False),
        ({"environ": {"NO_COLOR": "1"}}, False),
        ({"environ": {"NO_COLOR": ""}}, True),
        ({"environ": {"TERM": "dumb"}}, False),
    ],
)
def test_where_colour_is_used(changes: dict[str, Any], colored: bool) -> None:
    console = _console(**changes)
    assert console.colored(console.stderr) is colored


def test_tables_are_plain_text_in_a_pipe() -> None:
    console = _console(terminal=False)
    console.show("[not markup] \u2192")
    assert isinstance(console.stdout, Stream)
    assert console.stdout.getvalue() == "[not markup] \u2192\n"


def test_names_that_are_no_unicode_are_shown_not_fatal() -> None:
    raw = io.BytesIO()
    console = Console(stdin=io.BytesIO(), stdout=io.TextIOWrapper(raw, encoding="ascii"), stderr=Stream(False), environ={})
    console.result("caf\udce9 \u2192\n")
    assert raw.getvalue() == b"caf\\udce9 \\u2192\n"


@pytest.mark.parametrize(("text", "line"), [("a\n b", "a b"), ("\x1b[2Jx", "\\x1b[2Jx"), ("caf\u00e9", "caf\u00e9"), ("\u202egpj", "\\u202egpj")])
def test_one_line(text: str, line: str) -> None:
    assert one_line(text) == line
