"""The command line of commands that only ask a server: its flags and --output."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from flows.cli.flags import FlagParser, parse_observe
from flows.cli.flags_options import FALSE, OPTIONS, TRUE
from flows.cli.options import UsageError
from flows.flow.filter.errors import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flows.cli.flags_options import Option
    from flows.cli.options import ServerOptions

# The flags of `flows observe` that say how to reach a server.
_SERVER_OPTIONS = [row for row in OPTIONS.values() if row.group == OPTIONS["server"].group or row.name in {"config", "debug"}]


# Hubble's other spellings of formats.
_SPELLINGS = {"JSON": "json", "jsonpb": "json", "tab": "table"}


def parse_server_flags(
    command: str, arguments: Sequence[str], env: Mapping[str, str], formats: Sequence[str], default: str
) -> tuple[ServerOptions, str]:
    """How to reach the server, and the output format. Raises UsageError; `--help` prints and exits.

    formats: of --output; without any there is no such flag.
    """
    parsed, extra = _parser(command, formats, default).parse_known_args(arguments)
    if extra:
        names = [*(row.name for row in _SERVER_OPTIONS), *(["output"] if formats else []), "help"]
        flags = [f"--{name}" for name in names]
        close = nearest(extra[0].partition("=")[0], flags)
        hint = f"; did you mean {close}?" if close else f"; {command} --help lists all"
        raise UsageError(f'{command}: unexpected "{extra[0]}"{hint}')
    output = parsed.output if parsed.output in formats else _SPELLINGS.get(parsed.output, parsed.output)
    if formats and output not in formats:
        close = nearest(parsed.output, formats)
        hint = f"; did you mean {close}?" if close else ""
        raise UsageError(f'--output "{parsed.output}": expected one of {", ".join(formats)}{hint}')
    given = [f"--{row.name}={text}" for row in _SERVER_OPTIONS for text in getattr(parsed, row.name)]
    return parse_observe(given, env).server, output


def _parser(command: str, formats: Sequence[str], default: str) -> argparse.ArgumentParser:
    parser = FlagParser(prog=command, usage=f"{command} [flags]")
    if formats:
        about = f"one of {', '.join(formats)} (default {default})"
        parser.add_argument("-o", "--output", metavar="FORMAT", default=default, help=about)
    else:
        parser.set_defaults(output=default)
    for row in _SERVER_OPTIONS:
        _declare(parser, row)
    return parser


def _declare(parser: argparse.ArgumentParser, row: Option) -> None:
    names = [*([f"-{row.short}"] if row.short else []), f"--{row.name}"]
    about = row.help.replace("%", "%%")
    if not row.switch:
        parser.add_argument(*names, dest=row.name, action="append", default=[], metavar=row.metavar, help=about)
        return
    parser.add_argument(*names, dest=row.name, action="append_const", const="true", default=[], help=about)
    for text in (*TRUE, *FALSE):
        parser.add_argument(f"--{row.name}={text}", dest=row.name, action="append_const", const=text, help=argparse.SUPPRESS)
