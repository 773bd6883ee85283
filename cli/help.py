"""`--help` as plain text that fits the terminal: usage, what it does, examples, then the options by group."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from .options import GENERAL, PANELS

WIDEST = 110
COLUMN = 28


class Command(TyperCommand):
    """A command that lays its help out as `command_help` does."""

    def get_help(self, ctx: Any) -> str:
        return command_help(self, ctx, _width())


class Group(TyperGroup):
    """The same for the program itself."""

    def get_help(self, ctx: Any) -> str:
        return group_help(self, ctx, _width())


def command_help(command: TyperCommand, context: Any, width: int) -> str:
    """The help of one command, lines of at most `width` characters where words allow."""
    parts = [f"Usage: {context.command_path} [OPTIONS] {' '.join(arguments(command))}".rstrip(), *_description(command, width)]
    for heading, options in panels(command):
        parts.append("\n".join([f"{heading}:", *(row for option in options for row in _row(names(option), described(option), width))]))
    return "\n\n".join(parts)


def group_help(group: TyperGroup, context: Any, width: int) -> str:
    """The help of the program: what its commands are."""
    commands = [row for name, command in group.commands.items() for row in _row(name, (command.help or "").split("\n", 1)[0], width)]
    options = [row for option in group.params for row in _row(names(option), described(option), width) if isinstance(option, TyperOption)]
    usage = f"Usage: {context.command_path} COMMAND ..."
    more = f"'{context.command_path} COMMAND --help' describes one command."
    return "\n\n".join([usage, *_description(group, width), "\n".join(["Commands:", *commands]), "\n".join(["Options:", *options]), more])


def panels(command: TyperCommand) -> Iterator[tuple[str, list[TyperOption | TyperArgument]]]:
    """The parameters of a command by group, in the order of `PANELS`, arguments first."""
    arguments = [parameter for parameter in command.params if isinstance(parameter, TyperArgument)]
    if arguments:
        yield "Arguments", list(arguments)
    shown = [parameter for parameter in command.params if isinstance(parameter, TyperOption) and not parameter.hidden]
    for panel in PANELS:
        of_panel: list[TyperOption | TyperArgument] = [option for option in shown if (option.rich_help_panel or GENERAL) == panel]
        if of_panel:
            yield panel, of_panel


def names(parameter: Any) -> str:
    """`-o, --output FILE`."""
    if isinstance(parameter, TyperArgument):
        return str(parameter.metavar)
    spelled = ", ".join(sorted([*parameter.opts, *parameter.secondary_opts], key=lambda name: (name.startswith("--"), name.startswith("--no-"))))
    return f"{spelled} {parameter.metavar}" if parameter.metavar else spelled


def described(parameter: Any) -> str:
    """The help of one parameter with its choices and default."""
    text = parameter.help or ""
    choices = parameter.type_descriptor.choices
    if choices:
        text += f" One of: {', '.join(map(str, choices))}."
    if parameter.default is not None and not isinstance(parameter.default, bool) and not getattr(parameter, "count", False):
        text += f" [default: {parameter.default}]"
    return text


def arguments(command: TyperCommand) -> Sequence[str]:
    """What follows the options: FILE..."""
    return [str(parameter.metavar) for parameter in command.params if isinstance(parameter, TyperArgument)]


def _description(command: TyperCommand | TyperGroup, width: int) -> list[str]:
    """Paragraphs of the docstring: those that start with blanks are examples, and stay as they are."""
    paragraphs = (command.help or "").strip().split("\n\n")
    return [text if "\n  " in text else textwrap.fill(text, width) for text in paragraphs if text]


def _row(name: str, text: str, width: int) -> list[str]:
    lines = textwrap.wrap(text, max(20, width - COLUMN), break_long_words=False, break_on_hyphens=False) or [""]
    head = f"  {name}"
    if len(head) > COLUMN - 2:
        return [head, *(" " * COLUMN + line for line in lines)]
    return [head.ljust(COLUMN) + lines[0], *(" " * COLUMN + line for line in lines[1:])]


def _width() -> int:
    return min(WIDEST, shutil.get_terminal_size((100, 24)).columns)
