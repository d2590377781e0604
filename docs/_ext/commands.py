"""Every command with its options, on the page of the command line; shared options once.

Read off the parser that ``explgraph`` uses, when the page is built.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_MARK = "<!-- commands: read off the parser by docs/_ext/commands.py -->"


class _Parsing(Exception):
    """Holds the parser that was about to read a command line."""


def parser_of(main: Any) -> argparse.ArgumentParser:
    """Catch the parser of a program, wherever the program makes it."""

    def caught(parser: argparse.ArgumentParser, *_: Any, **__: Any) -> NoReturn:
        raise _Parsing(parser)

    usual = argparse.ArgumentParser.parse_args
    argparse.ArgumentParser.parse_args = caught  # type: ignore[method-assign,assignment]
    try:
        main([])
    except _Parsing as parsing:
        parser: argparse.ArgumentParser = parsing.args[0]
        return parser
    finally:
        argparse.ArgumentParser.parse_args = usual  # type: ignore[method-assign]
    raise LookupError("the program parses no command line by argparse")


def commands_of(
    parser: argparse.ArgumentParser,
) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """Go through ``(name, what it does, parser)`` of the commands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for told in action._choices_actions:
                yield told.dest, told.help or "", action.choices[told.dest]


def _told(_: Sphinx, page: str, source: list[str]) -> None:
    """Put the commands into the page that asks for them."""
    if page == "commands":
        from sphinx.util import logging

        from explgraph.cli.entry import main

        before, mark, after = source[0].partition(_MARK)
        if not mark:
            logging.getLogger(__name__).warning("commands.md has no line %r", _MARK)
        commands = list(commands_of(parser_of(main)))
        lines = ["| command | what it does |", "|---|---|"]
        lines += [f"| [`{name}`](#{name}) | {_cell(about)} |" for name, about, _ in commands]
        for name, _, command in commands:
            lines += ["", f"## {name}", "", *_section(command)]
        for title, table in _shared(commands).items():
            lines += ["", f"## {title}", "", "Options of several commands.", "", *table]
        source[0] = "\n".join([before, *lines, "", after])


def _shared(commands: Iterable[tuple[str, str, argparse.ArgumentParser]]) -> dict[str, list[str]]:
    """Tables of the groups of options that have a title: several commands take these."""
    groups = [group for _, _, command in commands for group in command._action_groups]
    return {g.title: [*_about(g), *_table(g)] for g in groups if _titled(g) and g.title is not None}


def _titled(group: argparse._ArgumentGroup) -> bool:
    """Tell whether a group of options is one of explgraph's, with something in it."""
    return bool(group._group_actions) and group.title not in ("options", "positional arguments")


def _about(group: argparse._ArgumentGroup) -> list[str]:
    """Give what a group of options says of itself."""
    return [group.description, ""] if group.description else []


def _table(group: argparse._ArgumentGroup) -> list[str]:
    """Give the table of a group of options; nothing if there is none."""
    rows = [_row(action) for action in group._group_actions if action.dest != "help"]
    head = "argument" if group.title == "positional arguments" else "option"
    return [f"| {head} | |", "|---|---|", *rows] if rows else []


def _section(command: argparse.ArgumentParser) -> Iterator[str]:
    """Tell of one command."""
    yield from (command.description or "", "")
    if command.epilog:
        _, _, examples = command.epilog.partition("\n")
        shown = [line.removeprefix("  ") for line in examples.splitlines()]
        yield from ("```console", *(f"$ {x}" if x[:1] != " " else x for x in shown), "```", "")
    for group in command._action_groups:
        if _titled(group) and group.title is not None:
            anchor = group.title.replace(" ", "-")
            yield from ("", f"Also the options for [{group.title}](#{anchor}).")
        else:
            yield from ("", *_table(group))


def _row(action: argparse.Action) -> str:
    """Tell of one option."""
    value = action.metavar
    if value is None and action.choices is not None:
        value = "|".join(map(str, action.choices))
    if value is None and action.nargs != 0:
        value = action.dest.upper()
    shown = f" {value}" if value is not None and action.option_strings else ""
    names = ", ".join(f"`{name}{shown}`" for name in action.option_strings) or f"`{value}`"
    about = action.help or ""
    if action.required and action.option_strings:
        about = f"**needed**; {about}"
    elif _worth_saying(action.default) and not any(
        word in about for word in ("default", f"({action.default})")
    ):
        about = f"{about} (default: {action.default})".strip()
    return f"| {_cell(names)} | {_cell(about)} |"


def _worth_saying(default: Any) -> bool:
    """Tell whether a default is more than nothing."""
    return isinstance(default, int | float | str) and not isinstance(default, bool)


def _cell(text: str) -> str:
    """Make text fit into a table, commands and options in it as code."""
    text = re.sub(r"'(explgraph [^']+)'|(?<!`)(--[a-z][\w-]*)", lambda m: f"`{m[1] or m[2]}`", text)
    return text.replace("%%", "%").replace("|", "\\|").replace("\n", " ")


def setup(app: Sphinx) -> dict[str, Any]:
    """Write the page when Sphinx reads it."""
    app.connect("source-read", _told)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
