"""`flows demo`: a small Kubernetes cluster of network namespaces on this machine."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from flows.demo import layout, lifecycle
from flows.demo.asking import ask
from flows.demo.client import Client, in_order, parse_manifests
from flows.demo.errors import DemoError, UsageError, printable
from flows.demo.status import print_status, read_status
from flows.demo.users import kubeconfig_of, token_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from flows.demo.client import Manifest

DESCRIPTION = """\
A small Kubernetes cluster on this machine: three nodes and their pods as network namespaces and cgroups, with
real servers, kube-proxy, DNS, a Kubernetes API that kubectl understands, and a flows agent on each node."""

PROGRAM = "flows demo"
# Options of the commands: argparse leaves it to the top to complain about an unknown one.
OPTIONS = ("--no-agents", "--timeout", "--output", "--container", "--filename", "--kubeconfig", "--duration", "--since", "--help")

MISSPELT = ("unrecognized arguments", "argument COMMAND: invalid choice", "argument ACT: invalid choice")

EXAMPLES = """\
examples:
  flows demo up                                 make the cluster, then: flows observe -f
  flows demo exec svc-a -- curl -s svc-b        run a command in a pod
  flows demo apply -f shop.yaml                 add your own workloads
  flows demo stop agent/node-2                  one node less to see; flows demo start agent/node-2
  flows demo token demo/viewer > viewer.token   somebody who may see flows of the namespace demo
  flows demo down                               remove all of it"""


class Parser(argparse.ArgumentParser):
    """argparse that ends with one line, the nearest spelling included."""

    def error(self, message: str) -> NoReturn:
        words = message.replace("'", " ").replace(":", " ").split() if message.startswith(MISSPELT) else []
        acts = [name for action in self._actions for name in action.choices or ()]
        known = [*COMMANDS, *acts, *self._option_string_actions, *(OPTIONS if self.prog == PROGRAM else ())]
        given = [word for word in words if word not in known]
        near = next((m for word in given for m in difflib.get_close_matches(word, known, 1, 0.6)), "")
        hint = f"; did you mean {near}?" if near else f"; see {self.prog} --help"
        self.exit(2, f"flows: {self.prog.removeprefix('flows ')}: {message}{hint}\n")


def parser() -> argparse.ArgumentParser:
    """The command line of `flows demo`."""
    top = Parser(
        prog=PROGRAM,
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (text, add_arguments, _) in COMMANDS.items():
        add_arguments(commands.add_parser(name, help=text, description=text, allow_abbrev=False))
    return top


def _up_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--no-agents", action="store_true", help="the cluster alone, no flows agents on its nodes")
    _timeout_arguments(sub)


def _timeout_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--timeout",
        type=_seconds,
        default=lifecycle.READY_SECONDS,
        metavar="SECONDS",
        help="how long to wait",
    )


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value < 86400:
        raise argparse.ArgumentTypeError(f"expected a number of seconds such as 60, got {text!r}")
    return value


def _status_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("-o", "--output", choices=("text", "json"), default="text", help="format")


def _exec_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("-c", "--container", metavar="NAME", help="container, when the pod has several")
    sub.add_argument("pod", metavar="[NAMESPACE/]POD", help="pod, by the beginning of its name")
    sub.usage = f"{sub.prog} [-h] [-c NAME] [NAMESPACE/]POD -- COMMAND [ARGUMENT ...]"


def _file_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "-f",
        "--filename",
        required=True,
        action="append",
        metavar="FILE",
        help="manifest; - for standard input",
    )


def _unit_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("unit", metavar="UNIT", help="as flows demo status names it, e.g. agent/node-2 or api")


def _token_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("account", metavar="NAMESPACE/NAME", help="ServiceAccount, e.g. demo/viewer")
    sub.add_argument("--kubeconfig", action="store_true", help="print a kubeconfig with the token instead of the token")
    sub.add_argument("--duration", type=_seconds, default=3600.0, metavar="SECONDS", help="how long it is good for")


def _api_arguments(sub: argparse.ArgumentParser) -> None:
    acts = sub.add_subparsers(dest="act", required=True, metavar="ACT")
    acts.add_parser("compact", help="forget history and end watches: clients get 410 and must list again")
    acts.add_parser("close-watches", help="end all watches; clients can go on from where they are")
    throttle = acts.add_parser("throttle", help="answer 429 to users that make more than RATE requests a second")
    throttle.add_argument("rate", type=int, metavar="RATE")
    throttle.add_argument("seconds", type=float, metavar="SECONDS", help="for so long; 0 ends it")
    requests = acts.add_parser("requests", help="the requests that the API server got, as JSON lines")
    requests.add_argument("--since", type=float, default=0.0, metavar="TIME", help="seconds since 1970")


def _no_arguments(_sub: argparse.ArgumentParser) -> None:
    return


def _up(args: argparse.Namespace) -> int:
    lifecycle.up(agents=not args.no_agents, timeout=args.timeout)
    print_status(read_status(), next_commands=True)
    return 0


def _down(_args: argparse.Namespace) -> int:
    lifecycle.down()
    return 0


def _status(args: argparse.Namespace) -> int:
    status = read_status()
    if args.output == "json":
        sys.stdout.write(json.dumps(status, indent=2) + "\n")
    else:
        print_status(status)
    return 0


def _exec(args: argparse.Namespace) -> int:
    from flows.demo import execute  # noqa: PLC0415  (only exec needs it)

    if not args.command_line:
        raise UsageError("exec: no command given; expected: flows demo exec [NAMESPACE/]POD -- COMMAND")
    execute.enter(execute.find_pod(read_status()["pods"], args.pod), args.container, args.command_line)
    return 0


def _manifests(files: list[str]) -> list[Manifest]:
    found: list[Manifest] = []
    for name in files:
        try:
            text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"cannot read manifest {name}: {getattr(error, 'strerror', None) or error}") from None
        found += parse_manifests(text, name)
    return in_order(found)


def _apply(args: argparse.Namespace) -> int:
    manifests = _manifests(args.filename)
    read_status()
    client = Client(layout.KUBECONFIG)
    for manifest in manifests:
        done, _ = client.apply(manifest)
        sys.stdout.write(f"{manifest.title} {done}\n")
    return 0


def _delete(args: argparse.Namespace) -> int:
    manifests = _manifests(args.filename)
    read_status()
    client = Client(layout.KUBECONFIG)
    for manifest in reversed(manifests):
        client.delete(manifest)
        sys.stdout.write(f"{manifest.title} deleted\n")
    return 0


def _stop(args: argparse.Namespace) -> int:
    ask("stop", unit=args.unit)
    sys.stdout.write(f"{args.unit} stopped; flows demo start {args.unit} brings it back\n")
    return 0


def _start(args: argparse.Namespace) -> int:
    ask("start", unit=args.unit)
    lifecycle.wait_for_unit(args.unit)
    sys.stdout.write(f"{args.unit} started\n")
    return 0


def _token(args: argparse.Namespace) -> int:
    token = token_of(args.account, int(args.duration))
    sys.stdout.write((kubeconfig_of(args.account, token) if args.kubeconfig else token) + "\n")
    return 0


def _api(args: argparse.Namespace) -> int:
    words = {key: value for key, value in vars(args).items() if key in {"rate", "seconds", "since"}}
    answer = ask(args.act, **words)
    rows = answer["requests"] if args.act == "requests" else [answer]
    sys.stdout.write("".join(json.dumps(row) + "\n" for row in rows))
    return 0


def _run(args: argparse.Namespace) -> int:
    return lifecycle.run(timeout=args.timeout)


# Name -> help, its arguments, what it does.
COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], int]]] = {
    "up": ("make the cluster, or repair what is left of one", _up_arguments, _up),
    "down": ("remove the cluster and every trace of it", _no_arguments, _down),
    "status": ("nodes, pods, agents and addresses", _status_arguments, _status),
    "exec": ("run a command inside a pod", _exec_arguments, _exec),
    "apply": ("create or change what a manifest describes", _file_arguments, _apply),
    "delete": ("delete what a manifest describes", _file_arguments, _delete),
    "stop": ("stop an agent or the API server, until start", _unit_arguments, _stop),
    "start": ("start what was stopped, and wait until it serves", _unit_arguments, _start),
    "token": ("a token of a ServiceAccount, for flows observe --token-file; or its kubeconfig", _token_arguments, _token),
    "api": ("make the API server throttle, forget or hang up; show its requests", _api_arguments, _api),
    "run": ("up, live flows until Ctrl-C, down", _timeout_arguments, _run),
}


def check_root(command: str) -> None:
    """Raise DemoError for anybody but root."""
    if os.geteuid() != 0:
        raise DemoError(f"demo {command}: needs root for namespaces and cgroups: sudo flows demo {command}")


def main(argv: list[str]) -> int:
    """Run `flows demo ARGV`; the exit code."""
    cut = argv.index("--") if "--" in argv else len(argv)
    try:
        args = parser().parse_args(argv[:cut], argparse.Namespace(command_line=argv[cut + 1 :]))
    except SystemExit as end:
        return int(end.code or 0)
    try:
        check_root(args.command)
        return COMMANDS[args.command][2](args)
    except DemoError as error:
        sys.stderr.write(f"flows: {printable(str(error))}\n")
        return 2 if isinstance(error, UsageError) else 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read us is gone: nothing more to say
        return 141
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
