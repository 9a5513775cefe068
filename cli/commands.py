"""Commands: the table of what `flows` can do, and how each begins. Imports wait until they are needed."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from flows.cli.print.escape import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from flows.cli.options import ServerOptions
    from flows.cli.servers import Server

_HEADER = """\
usage: flows COMMAND [flags]

See who talks to whom on this machine or in this cluster, from the kernel's point of view.

commands:
"""

_FOOTER = """
examples:
  flows local &                                  observe this machine, without a cluster
  flows observe -f                               show flows as they come
  flows observe --from web --to db --last 20     does web talk to db?
  flows observe --verdict DROPPED --since 15m -o json
  flows observe --input-file flows.json --pod shop/cart
  flows demo up                                  a small cluster to play with
  flows status                                   is a server there, and is it well?

`flows COMMAND --help` tells more. Exit status: 0 done, 1 failed, 2 not understood, 130 interrupted.
FLOWS_SERVER names the server; FLOWS_DEBUG=1 shows where an error came from.
"""


class Command(NamedTuple):
    """What a command does, in a line; run takes the arguments after its name and gives the exit status."""

    summary: str
    run: Callable[[Sequence[str]], int]


def _observe(arguments: Sequence[str]) -> int:
    from flows.cli.flags import parse_observe  # noqa: PLC0415 - the same everywhere here: import what is run
    from flows.cli.flags_raw import raw_filters_yaml  # noqa: PLC0415
    from flows.cli.observe import observe_file, observe_servers  # noqa: PLC0415
    from flows.cli.servers import choose  # noqa: PLC0415

    named = choose(arguments, os.environ)
    options = parse_observe(named.arguments, named.env)
    for note in options.notes:
        print(f"flows: {escape(note)}", file=sys.stderr)
    if options.print_raw_filters:
        sys.stdout.write(raw_filters_yaml(options.allow, options.deny))
    elif options.input_file is not None:
        observe_file(options)
    else:
        observe_servers(options, named.servers(options.server))
    return 0


def _status(arguments: Sequence[str]) -> int:
    from flows.cli.status import STATUS_FORMATS, print_status  # noqa: PLC0415

    print_status(*_question("flows status", arguments, STATUS_FORMATS, "compact"))
    return 0


def _list(arguments: Sequence[str]) -> int:
    from flows.cli.options import UsageError  # noqa: PLC0415
    from flows.cli.status import NAMESPACE_FORMATS, print_namespaces  # noqa: PLC0415

    what, rest = (arguments[0], arguments[1:]) if arguments else ("", ())
    if what in {"-h", "--help"}:
        what, rest = "namespaces", ["--help"]
    if what not in {"namespaces", "namespace", "ns"}:
        raise UsageError(f'flows list "{what}": expected namespaces, i.e. `flows list namespaces`')
    print_namespaces(*_question("flows list namespaces", rest, NAMESPACE_FORMATS, "table"))
    return 0


def _question(
    command: str, arguments: Sequence[str], formats: Mapping[str, object], default: str
) -> tuple[list[Server], ServerOptions, str]:
    """Servers, how to reach them, and the output format, of a command that has only these flags."""
    from flows.cli.server_flags import parse_server_flags  # noqa: PLC0415
    from flows.cli.servers import choose  # noqa: PLC0415

    named = choose(arguments, os.environ)
    options, output = parse_server_flags(command, named.arguments, named.env, list(formats), default)
    return named.servers(options), options, output


def _version(_arguments: Sequence[str]) -> int:
    from importlib.metadata import version  # noqa: PLC0415

    python = ".".join(map(str, sys.version_info[:3]))
    print(f"flows {version('flows')} (Python {python}, Hubble API 1.19)")
    return 0


def _completion(arguments: Sequence[str]) -> int:
    from flows.cli.completion import SHELLS, completion  # noqa: PLC0415
    from flows.cli.options import UsageError  # noqa: PLC0415

    if len(arguments) != 1 or arguments[0] not in SHELLS:
        expected = f"expected one of {', '.join(SHELLS)}"
        raise UsageError(f"flows completion: {expected}, e.g. `source <(flows completion bash)`")
    sys.stdout.write(completion(arguments[0], {name: command.summary for name, command in COMMANDS.items()}))
    return 0


def _help(arguments: Sequence[str]) -> int:
    if arguments and arguments[0] in COMMANDS and arguments[0] != "help":
        return COMMANDS[arguments[0]].run(["--help"])
    width = max(map(len, COMMANDS)) + 2
    rows = "".join(f"  {name:{width}}{command.summary}\n" for name, command in COMMANDS.items())
    sys.stdout.write(_HEADER + rows + _FOOTER)
    return 0


def _other(module: str, *first: str) -> Callable[[Sequence[str]], int]:
    """A command that another part of flows runs: its main takes the arguments, first its own before them."""

    def run(arguments: Sequence[str]) -> int:
        main: Callable[[Sequence[str]], int] = import_module(module).main
        return main([*first, *arguments])

    return run


COMMANDS: Mapping[str, Command] = {
    "observe": Command("show flows: past ones, or with -f as they come", _observe),
    "status": Command("show whether a server is well and how full its store is", _status),
    "list": Command("list the namespaces of which a server holds flows", _list),
    "local": Command("observe this machine and serve it to the commands above", _other("flows.agent.main", "local")),
    "agent": Command("observe a node of a cluster and serve it", _other("flows.agent.main", "agent")),
    "demo": Command("a small cluster on this machine, made of namespaces", _other("flows.demo.main")),
    "completion": Command("print the completion script for bash, zsh or fish", _completion),
    "version": Command("print the version", _version),
    "help": Command("print this, or the help of a command", _help),
}
