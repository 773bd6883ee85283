"""Where an option's value comes from, and what a file may not say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Invoke = Callable[..., Any]
PRUNE = ("prune", "m.onnx", "--flops", "0.5")


def test_flag_beats_environment_beats_project_beats_user(invoke: Invoke, pipeline: Any, tmp_path: Path) -> None:
    user = tmp_path / "compresskit" / "config.toml"
    user.parent.mkdir()
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    seen = []

    def ask(*arguments: str, **more: str) -> None:
        invoke(*PRUNE, *arguments, environ={**environ, **more})
        seen.append(pipeline.asked.threads)

    ask()
    user.write_text("threads = 1")
    ask()
    Path("compresskit.toml").write_text("threads = 2")
    ask()
    ask(COMPRESSKIT_THREADS="3")
    ask("-T", "4", COMPRESSKIT_THREADS="3")
    assert seen == [None, 1, 2, 3, 4]


def test_a_command_s_own_section_beats_the_top(invoke: Invoke, pipeline: Any) -> None:
    Path("compresskit.toml").write_text("threads = 2\nlabel-smoothing = 0.1\n[prune]\nthreads = 3\nmean = [0.4, 0.5]\n")
    assert invoke(*PRUNE).code == 0
    assert (pipeline.asked.threads, pipeline.asked.config.label_smoothing, pipeline.asked.mean) == (3, 0.1, (0.4, 0.5))


def test_an_entry_at_the_top_need_not_suit_every_command(invoke: Invoke, pipeline: Any, decoder: Any) -> None:
    Path("compresskit.toml").write_text('threads = 2\nseed = 3\ncriterion = "l1"\nmax-memory = "1GB"\n[encode]\nquality = 7\n')
    assert (invoke(*PRUNE).code, invoke("decode", "s.coinpp").code) == (0, 0)
    assert (pipeline.asked.config.seed, pipeline.asked.threads) == (3, 2)
    assert (decoder.asked.threads, decoder.asked.max_memory) == (2, 10**9)


def test_pyproject_serves_where_there_is_no_file_of_its_own(invoke: Invoke, pipeline: Any) -> None:
    Path("pyproject.toml").write_text('[tool.compresskit.prune]\ncriterion = "fpgm"\n[tool.other]\nx = 1\n')
    invoke(*PRUNE)
    assert pipeline.asked.config.criterion == "fpgm"
    Path("compresskit.toml").write_text('criterion = "l1"')
    invoke(*PRUNE)
    assert pipeline.asked.config.criterion == "l1"


def test_a_named_file_replaces_both(invoke: Invoke, pipeline: Any) -> None:
    Path("compresskit.toml").write_text("threads = 2\nsteps = 4")
    Path("mine.toml").write_text("threads = 3")
    invoke(*PRUNE, "--config", "mine.toml")
    assert (pipeline.asked.threads, pipeline.asked.config.steps) == (3, 1)


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("thread = 2", 2, "compresskit.toml: unknown entry 'thread': did you mean 'threads'?"),
        ("[prun]\nthreads = 2", 2, "compresskit.toml: unknown section [prun]: did you mean 'prune'?"),
        ("zzzzzz = 1", 2, "compresskit.toml: unknown entry 'zzzzzz'"),
        ("trust = true", 2, "compresskit.toml: trust = True can be given on the command line only"),
        ("force = true", 2, "compresskit.toml: force = True can be given on the command line only"),
        ('arch = "evil.py:make"', 2, "compresskit.toml: arch = 'evil.py:make' can be given on the command line only"),
        ('data = "evil:load"', 2, "compresskit.toml: data = 'evil:load' can be given on the command line only"),
        ("threads = ", 3, "cannot read compresskit.toml: not TOML: "),
        ("a" + "[" * 5000, 3, "cannot read compresskit.toml: not TOML: "),
        ("#" * 1_000_001, 3, "cannot read compresskit.toml: over 1000000 bytes"),
        ('threads = "two"', 2, "invalid value for '-T' / '--threads'"),
        ('criterion = "l7"', 2, "invalid value for '--criterion'"),
    ],
)
def test_what_a_file_may_not_say(invoke: Invoke, pipeline: Any, text: str, code: int, message: str) -> None:
    Path("compresskit.toml").write_text(text)
    done = invoke(*PRUNE)
    assert (done.code, done.out, done.err.count("\n")) == (code, "", 1)
    assert done.err.startswith(f"compresskit: error: {message}")
    assert pipeline.request is None


def test_trust_is_given_on_the_command_line_only(invoke: Invoke, pipeline: Any) -> None:
    invoke(*PRUNE, environ={"COMPRESSKIT_TRUST": "1"})
    assert pipeline.asked.trust is False
    invoke(*PRUNE, "--trust")
    assert pipeline.asked.trust is True


def test_a_missing_file_is_an_error(invoke: Invoke) -> None:
    done = invoke(*PRUNE, "--config", "missing.toml")
    assert (done.code, done.err) == (3, "compresskit: error: cannot read missing.toml: no such file or directory\n")


def test_a_flag_from_the_environment(invoke: Invoke, pipeline: Any) -> None:
    done = invoke(*PRUNE, environ={"COMPRESSKIT_QUIET": "1"})
    assert (done.code, done.out, done.err) == (0, "", "")
