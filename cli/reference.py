"""Completions, man page and command reference, all made from the options themselves, so that none can be out of date.

app ─► commands(), flags() ─┬─► bash() zsh() fish()    completions/
                            ├─► man_page()             completions/compresskit.1
                            └─► markdown()             README.md, "Commands"
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from .app import app
from .help import arguments, command_help, described, names, panels

NAME = "compresskit"
WIDTH = 100


@dataclass(frozen=True)
class Flag:
    """One option: its spellings, whether a value follows, the values there are (empty: any file), and its help."""

    spellings: tuple[str, ...]
    valued: bool
    choices: tuple[str, ...]
    help: str


def commands() -> dict[str, TyperCommand]:
    """Every command by name."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    return {name: command for name, command in group.commands.items() if isinstance(command, TyperCommand)}


def flags(command: TyperCommand) -> tuple[Flag, ...]:
    """The options of `command`, in the order of its help."""
    shown = [parameter for _, parameters in panels(command) for parameter in parameters if isinstance(parameter, TyperOption)]
    return tuple(
        Flag(
            spellings=(*parameter.opts, *parameter.secondary_opts),
            valued=parameter.metavar is not None,
            choices=tuple(map(str, parameter.type_descriptor.choices or ())),
            help=(parameter.help or "").rstrip("."),
        )
        for parameter in shown
    )


def bash() -> str:
    """A completion script for bash; where it offers nothing, bash offers files."""
    cases = []
    for name, command in commands().items():
        values = [
            f'            {"|".join(flag.spellings)}) COMPREPLY=($(compgen -W "{" ".join(flag.choices)}" -- "$word")); return ;;'
            for flag in flags(command)
            if flag.choices
        ]
        files = "|".join(spelling for flag in flags(command) if flag.valued and not flag.choices for spelling in flag.spellings)
        words = " ".join(spelling for flag in flags(command) for spelling in flag.spellings)
        cases.append(
            "\n".join(
                [
                    f"    {name})",
                    '        case "$previous" in',
                    *values,
                    f"            {files}) return ;;",
                    "        esac",
                    f'        [[ $word == -* ]] && COMPREPLY=($(compgen -W "{words}" -- "$word")) ;;',
                ]
            )
        )
    return "\n".join(
        [
            f"# bash completion for {NAME}: source this file, or put it into /etc/bash_completion.d",
            f"_{NAME}() {{",
            '    local word="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}"',
            '    case "${COMP_WORDS[1]}" in',
            *cases,
            f'    *) COMPREPLY=($(compgen -W "{" ".join(commands())} --version --help" -- "$word")) ;;',
            "    esac",
            "}",
            f"complete -o default -F _{NAME} {NAME}",
            "",
        ]
    )


def zsh() -> str:
    """A completion script for zsh."""
    lines = [f"#compdef {NAME}", f"# zsh completion for {NAME}: put this file into a folder of $fpath, as _{NAME}", f"_{NAME}() {{"]
    lines += ["    if (( CURRENT == 2 )); then", f"        compadd -- {' '.join(commands())} --version --help", "        return", "    fi"]
    lines += ["    case $words[2] in"]
    for name, command in commands().items():
        lines += [f"    {name})", "        shift words; (( CURRENT-- ))", "        _arguments -S \\"]
        for flag in flags(command):
            text = flag.help.replace("'", "'\\''").replace("[", "\\[").replace("]", "\\]").replace(":", "\\:")
            value = f":value:({' '.join(flag.choices)})" if flag.choices else ":file:_files" if flag.valued else ""
            lines += [f"            '*{spelling}[{text}]{value}' \\" for spelling in flag.spellings]
        lines += ["            '*:file:_files' ;;"]
    return "\n".join([*lines, "    esac", "}", f'_{NAME} "$@"', ""])


def fish() -> str:
    """A completion script for fish."""
    lines = [f"# fish completion for {NAME}: put this file into ~/.config/fish/completions"]
    lines += [f"complete -c {NAME} -n __fish_use_subcommand -l version -d 'Show the version and exit'"]
    for name, command in commands().items():
        summary = _quoted((command.help or "").split("\n", 1)[0].rstrip("."))
        lines += [f"complete -c {NAME} -n __fish_use_subcommand -f -a {name} -d {summary}"]
        for flag in flags(command):
            spelled = " ".join(f"-l {word[2:]}" if word.startswith("--") else f"-s {word[1:]}" for word in flag.spellings)
            value = f" -x -a {_quoted(' '.join(flag.choices))}" if flag.choices else " -r" if flag.valued else ""
            lines += [f"complete -c {NAME} -n '__fish_seen_subcommand_from {name}' {spelled}{value} -d {_quoted(flag.help)}"]
    return "\n".join([*lines, ""])


def man_page() -> str:
    """The manual, in man(7) macros."""
    lines = [f'.TH {NAME.upper()} 1 "" "" "User Commands"', ".SH NAME", f"{NAME} \\- make models and data files smaller"]
    lines.append(".SH SYNOPSIS")
    for name, command in commands().items():
        lines += [f".B {NAME} {name}", f"[\\fIOPTIONS\\fR] \\fI{' '.join(arguments(command))}\\fR", ".br"]
    for name, command in commands().items():
        description, _, examples = (command.help or "").partition("\n\n")
        lines += [f'.SH "{NAME} {name}"', _roff(description), ".SS Examples", ".nf", _roff(examples.partition("\n")[2]), ".fi"]
        for heading, parameters in panels(command):
            lines.append(f'.SS "{heading}"')
            for parameter in parameters:
                lines += [".TP", f".B {_roff(names(parameter))}", _roff(described(parameter))]
    lines += [".SH EXIT STATUS", *(f".TP\n.B {code}\n{_roff(text)}" for code, text in EXIT_CODES)]
    return "\n".join([*lines, ""])


def markdown() -> str:
    """`--help` of every command, for the README."""
    return "\n".join(_sections())


EXIT_CODES = (
    ("0", "done"),
    ("1", "a fault of compresskit"),
    ("2", "the options are wrong, or an output exists"),
    ("3", "an input cannot be read, or an output cannot be written"),
    ("4", "the target cannot be met; the best that can is written, and named"),
    (
        "5",
        "a guard failed: --max-drop or --require-speedup (the model is written), --verify, a check of the output; or training diverged",
    ),
    ("6", "the file would run code when it is loaded, and --trust was not given"),
    ("129, 130, 143", "ended by SIGHUP, Ctrl-C or SIGTERM; nothing half-made is left"),
)


def _sections() -> Iterator[str]:
    for name, command in commands().items():
        text = command_help(command, typer.Context(command, info_name=f"{NAME} {name}"), WIDTH)
        yield f"### {NAME} {name}\n\n```text\n{text}\n```\n"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _roff(text: str) -> str:
    """Escape what man(7) would take for its own: backslashes, hyphens that are minus signs, and dots that begin a line."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join("\\&" + line if line.startswith((".", "'")) else line for line in escaped.split("\n"))
