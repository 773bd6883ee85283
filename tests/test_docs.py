"""What the documents say is what the program does."""

from __future__ import annotations

import importlib.util
import io
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from compresskit.cli import reference
from compresskit.cli.app import main
from compresskit.cli.console import Console
from compresskit.errors import ExitCode

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def _script(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKE = _script(ROOT / "completions" / "make.py")


@pytest.mark.parametrize("name", MAKE.FILES)
def test_what_is_made_from_the_options_is_up_to_date(name: str) -> None:
    made = (ROOT / "completions" / name).read_text()
    assert made == MAKE.FILES[name](), "run: python completions/make.py"


def test_the_command_reference_is_up_to_date() -> None:
    assert MAKE.readme(README) == README, "run: python completions/make.py"


def test_the_reference_holds_every_option_and_exit_code() -> None:
    for command in reference.commands().values():
        for flag in reference.flags(command):
            assert all(re.search(rf"(?<!\S){re.escape(word)}\b", README) for word in flag.spellings)
    documented = {int(code) for codes, _ in reference.EXIT_CODES for code in codes.split(",")}
    assert set(ExitCode) <= documented


def _help_examples() -> list[str]:
    """The example lines in the help of every command, without what feeds or follows a pipe."""
    lines = [line.strip() for command in reference.commands().values() for line in (command.help or "").splitlines()]
    return [re.sub(r"^.*\| *|>.*$", "", line) for line in lines if "compresskit " in line and line.startswith(("compresskit", "cat"))]


@pytest.mark.parametrize("line", [*_help_examples(), *re.findall(r"compresskit prune .*--data \S+(?=\n)", README.split("##")[0])])
def test_every_example_is_accepted(line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[Any] = []

    class Reached(BaseException):
        pass

    def run(*request: Any) -> None:
        seen.append(request)
        raise Reached

    monkeypatch.chdir(tmp_path)
    for entry in (
        "pruning.curve.run",
        "pruning.pipeline.run",
        "quantization.pipeline.run",
        "quantization.robust.pipeline.run",
        "quantization.sweep.run",
        "metaprune.pipeline.run",
        "metaprune.meta_pipeline.run",
        "recommend.pipeline.run",
        "recommend.sweep.run",
        "recommend.diffusion.pipeline.run",
        "codec.pipeline.encode",
        "codec.decoding.decode",
        "codec.decoding.read_stream",
        "codec.training.train_base",
    ):
        monkeypatch.setattr(f"compresskit.{entry}", run)
    console = Console(stdin=io.BytesIO(b"model"), stdout=io.StringIO(), stderr=io.StringIO(), environ={})
    main(shlex.split(line)[1:], console)
    assert len(seen) == 1, console.stderr.getvalue() if isinstance(console.stderr, io.StringIO) else ""


def test_the_configuration_in_the_readme_is_accepted() -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", README, flags=re.DOTALL)
    entries = tomllib.loads(block)
    known = {str(parameter.name) for parameter in reference.commands()["prune"].params}
    assert set(entries.pop("prune")) | set(entries) <= known


def test_the_python_in_the_readme_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    monkeypatch.chdir(ROOT)
    exec(compile(block, "README.md", "exec"), {})  # noqa: S102 - our own text
    assert capsys.readouterr().out == "0.50 of the MACs stay\n"


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["compresskit", "pr"], {"prune"}),
        (["compresskit", "prune", "m", "--flo"], {"--flops", "--floor"}),
        (["compresskit", "prune", "m", "--scope", ""], {"global", "layer"}),
        (["compresskit", "prune", "m"], {""}),
        (["compresskit", "encode", "a.png", "b.png", "--method", ""], {"auto", "coin++", "coin"}),
        (["compresskit", "decode", "--in"], {"--info"}),
        (["compresskit", "prune", "m", "--data", "--f"], {""}),
    ],
)
def test_bash_completes(words: list[str], expected: set[str]) -> None:
    script = (
        f"source {shlex.quote(str(ROOT / 'completions' / 'compresskit.bash'))}; COMP_WORDS=({shlex.join(words)}); "
        f"COMP_CWORD={len(words) - 1}; _compresskit; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    done = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True)
    assert (done.stderr, set(done.stdout.splitlines())) == ("", expected)


@pytest.mark.parametrize(
    ("shell", "name"), [("bash", "compresskit.bash"), ("zsh", "_compresskit"), ("fish", "compresskit.fish")], ids=lambda value: str(value)
)
def test_the_shell_can_read_it(shell: str, name: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    assert subprocess.run([shell, "-n", ROOT / "completions" / name], capture_output=True).returncode == 0
