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
  flows dns --from web                           is it DNS? which names, at what cost: flows dns names
  flows http --from web --to cart                which endpoints, how fast?
  flows demo up                                  a small cluster to play with
  flows observe -P --from web --last 20          the same of a cluster, through the Kubernetes API
  flows list nodes                               which nodes does the relay see?
  flows status                                   is a server there, and is it well?

`flows COMMAND --help` tells more. Exit status: 0 done, 1 failed, 2 not understood, 130 interrupted;
with --exit-code 0 found, 1 none (or failed), 3 not known: something is missing.
FLOWS_SERVER names the server; FLOWS_DEBUG=1 shows where an error came from.
"""


class Command(NamedTuple):
    """What a command does, in a line; run takes the arguments after its name and gives the exit status."""

    summary: str
    run: Callable[[Sequence[str]], int]


def _observe(arguments: Sequence[str]) -> int:
    from flows.cli.flags import parse_observe  # noqa: PLC0415 - the same everywhere here: import what is run
    from flows.cli.flags_raw import raw_filters_yaml  # noqa: PLC0415
    from flows.cli.observe import observe_file, observe_server  # noqa: PLC0415
    from flows.cli.servers import server_of  # noqa: PLC0415

    options = parse_observe(arguments, os.environ)
    for note in options.notes:
        print(f"flows: {escape(note)}", file=sys.stderr)
    if options.print_raw_filters:
        sys.stdout.write(raw_filters_yaml(options.allow, options.deny))
        return 0
    if options.input_file is not None:
        outcome = observe_file(options)
    else:
        outcome = observe_server(options, None if options.server.port_forward else server_of(options.server))
    return outcome.status(filtered=options.filtered) if options.exit_code else 0


def _dns(arguments: Sequence[str]) -> int:
    from flows.cli.dns import dns  # noqa: PLC0415

    return dns(arguments)


def _http(arguments: Sequence[str]) -> int:
    from flows.cli.http import http  # noqa: PLC0415

    return http(arguments)


def _encryption(arguments: Sequence[str]) -> int:
    from flows.cli.encryption import encryption  # noqa: PLC0415

    return encryption(arguments)


def _status(arguments: Sequence[str]) -> int:
    from flows.cli.status import STATUS_FORMATS, print_status  # noqa: PLC0415

    print_status(*_question("flows status", arguments, STATUS_FORMATS, "compact"))
    return 0


def _list(arguments: Sequence[str]) -> int:
    from flows.cli.nodes import NODE_FORMATS, print_nodes  # noqa: PLC0415
    from flows.cli.status import NAMESPACE_FORMATS, print_namespaces  # noqa: PLC0415

    what, rest = _what("list", arguments, {"namespaces": ("namespace", "ns"), "nodes": ("node",)})
    if what == "nodes":
        print_nodes(*_question("flows list nodes", rest, NODE_FORMATS, "table"))
    else:
        print_namespaces(*_question("flows list namespaces", rest, NAMESPACE_FORMATS, "table"))
    return 0


def _watch(arguments: Sequence[str]) -> int:
    from flows.cli.peers import watch_peers  # noqa: PLC0415

    _, rest = _what("watch", arguments, {"peers": ("peer",)})
    server, options, _ = _question("flows watch peers", rest, {}, "")
    watch_peers(server, options)
    return 0


def _what(command: str, arguments: Sequence[str], kinds: Mapping[str, tuple[str, ...]]) -> tuple[str, Sequence[str]]:
    """Which of the kinds a command is about, by its name or another, and the arguments that follow. Raises UsageError."""
    from flows.cli.options import UsageError  # noqa: PLC0415

    word = arguments[0] if arguments else ""
    if word in {"-h", "--help"}:
        return next(iter(kinds)), ["--help"]
    for kind, others in kinds.items():
        if word in {kind, *others}:
            return kind, arguments[1:]
    raise UsageError(f'flows {command} "{word}": expected {" or ".join(kinds)}, e.g. `flows {command} {next(iter(kinds))}`')


def _question(
    command: str, arguments: Sequence[str], formats: Mapping[str, object], default: str
) -> tuple[Server | None, ServerOptions, str]:
    """Server (None: through a port-forward), how to reach it, and the output format, of a command with only these flags."""
    from flows.cli.server_flags import parse_server_flags  # noqa: PLC0415
    from flows.cli.servers import server_of  # noqa: PLC0415

    options, output = parse_server_flags(command, arguments, os.environ, list(formats), default)
    return None if options.port_forward else server_of(options), options, output


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


def _server(module: str, *first: str) -> Callable[[Sequence[str]], int]:
    """The same of a server, whose gRPC must be told what TLS to speak before it is imported."""

    def run(arguments: Sequence[str]) -> int:
        from flows.wire.environment import prepare_grpc  # noqa: PLC0415

        prepare_grpc()
        return _other(module, *first)(arguments)

    return run


COMMANDS: Mapping[str, Command] = {
    "observe": Command("show flows: past ones, or with -f as they come", _observe),
    "status": Command("show whether a server is well and how full its store is", _status),
    "dns": Command("is it DNS? failed, slow and unanswered queries with their cause; `dns names`: what is resolved", _dns),
    "http": Command("which HTTP and gRPC endpoints are called, with what outcome and how fast", _http),
    "encryption": Command("which service-to-service traffic is encrypted, and which is plain", _encryption),
    "list": Command("list the namespaces of which a server holds flows, or a relay's nodes", _list),
    "watch": Command("watch which peers a server knows", _watch),
    "local": Command("observe this machine and serve it to the commands above", _server("flows.agent.main", "local")),
    "agent": Command("observe a node of a cluster and serve it", _server("flows.agent.main", "agent")),
    "relay": Command("serve the flows of all agents as one", _server("flows.relay.main")),
    "demo": Command("a small cluster on this machine, made of namespaces", _other("flows.demo.main")),
    "completion": Command("print the completion script for bash, zsh or fish", _completion),
    "version": Command("print the version", _version),
    "help": Command("print this, or the help of a command", _help),
}
