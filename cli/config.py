"""Where an option's value comes from: the command line, else the environment, else the project's file, else the user's.

    COMPRESSKIT_THREADS=2                          environment: COMPRESSKIT_ and the option's name
    ./compresskit.toml, or [tool.compresskit]      project (the latter in ./pyproject.toml)
    $XDG_CONFIG_HOME/compresskit/config.toml       user
    --config FILE                                  in place of both files

In a file, an entry at the top is for every command and an entry in `[prune]` for that one.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import typer

from compresskit.errors import InputError, UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PREFIX = "COMPRESSKIT_"
COMMAND_LINE_ONLY = frozenset(
    {
        *("model", "file", "files", "trust", "config", "traceback", "help", "train_base", "info", "test", "dry_run"),
        *("output", "stdout", "force", "json", "report", "plot", "preview", "checkpoint", "resume"),
    }
)
"""What a file that happens to lie in the working folder must not be able to do: run code, choose and replace files."""
NAMES_CODE = frozenset({"arch", "data"})
MAX_BYTES = 1_000_000


def load_into(context: typer.Context, explicit: str | None) -> str | None:
    """The callback of `--config`: make the values of the files and of the environment this command's defaults.

    Raises:
        UsageError: an unknown entry, or one that only the command line may set.
        InputError: a file that cannot be read, or is no TOML.
    """
    if context.resilient_parsing:
        return explicit
    environ: Mapping[str, str] = context.obj.environ
    known = {str(parameter.name) for parameter in context.command.params}
    command = str(context.command.name)
    commands: Mapping[str, Any] = getattr(context.parent.command, "commands", {}) if context.parent else {}
    anywhere = known.union(*({str(parameter.name) for parameter in other.params} for other in commands.values()))
    layers: dict[str, Any] = {}
    for path, table in _files(Path(explicit) if explicit else None, environ):
        general, sections = _split(table, commands, path)
        # At the top is what any command takes: this one need not know all of it.
        layers.update({name: value for name, value in _checked(general, anywhere, path).items() if name in known})
        layers.update(_checked(sections.get(command, {}), known, path))
    for name in known - COMMAND_LINE_ONLY:
        if value := environ.get(PREFIX + name.upper()):
            layers[name] = value
    context.default_map = layers
    return explicit


def _files(explicit: Path | None, environ: Mapping[str, str]) -> Iterable[tuple[Path, Mapping[str, Any]]]:
    """The files there are, the one that yields last."""
    if explicit is not None:
        yield explicit, _read(explicit)
        return
    user = Path(environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME", "~")) / ".config") / "compresskit" / "config.toml"
    if user.is_file():
        yield user, _read(user)
    project, pyproject = Path("compresskit.toml"), Path("pyproject.toml")
    if project.is_file():
        yield project, _read(project)
    elif pyproject.is_file():
        tool = _read(pyproject).get("tool", {})
        if isinstance(tool, Mapping) and isinstance(tool.get("compresskit"), Mapping):
            yield pyproject, tool["compresskit"]


def _read(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error
    if len(content) > MAX_BYTES:
        raise InputError(f"cannot read {path}: over {MAX_BYTES} bytes; a configuration is smaller")
    try:
        return tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise InputError(f"cannot read {path}: not TOML: {error}") from error


def _split(table: Mapping[str, Any], commands: Iterable[str], path: Path) -> tuple[dict[str, Any], dict[str, Mapping[str, Any]]]:
    """The entries at the top, and the sections by command."""
    sections = {key: value for key, value in table.items() if isinstance(value, Mapping)}
    for key in sections:
        if key not in commands:
            raise UsageError(f"{path}: unknown section [{key}]{_nearest(key, commands)}")
    return {key: value for key, value in table.items() if key not in sections}, sections


def _checked(entries: Mapping[str, Any], known: set[str], path: Path) -> dict[str, Any]:
    checked = {}
    for key, value in entries.items():
        name = key.replace("-", "_")
        if name not in known:
            raise UsageError(f"{path}: unknown entry {key!r}{_nearest(key, known - COMMAND_LINE_ONLY)}")
        if name in COMMAND_LINE_ONLY or (name in NAMES_CODE and ":" in str(value)):
            raise UsageError(f"{path}: {key} = {value!r} can be given on the command line only")
        checked[name] = ",".join(map(str, value)) if isinstance(value, list) else value
    return checked


def _nearest(word: str, choices: Iterable[str]) -> str:
    near = difflib.get_close_matches(word.replace("-", "_"), list(choices), n=1)
    return f": did you mean {near[0]!r}?" if near else ""
