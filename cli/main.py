"""The command `flows`: which command was called; how an error becomes a line and an exit status."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from difflib import get_close_matches
from typing import TYPE_CHECKING

from flows.cli.commands import COMMANDS
from flows.cli.print.escape import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

# Exit statuses: as good tools do, and as documented in --help.
OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


class CommandError(Exception):
    """The command line names no command: one line; exit status 2."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line; argv is without the program's name. Gives the exit status."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    _never_fail_to_encode()
    try:
        status = _run(arguments)
        sys.stdout.flush()
    except SystemExit as end:  # argparse, after --help
        return end.code if isinstance(end.code, int) else OK
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _forget_output()
        return OK
    except Exception as error:  # noqa: BLE001 - the last place that can turn it into a line for a person
        return _explain(error)
    return status


def _run(arguments: list[str]) -> int:
    name = arguments[0] if arguments else "help"
    if name in {"-h", "--help"}:
        name = "help"
    elif name == "--version":
        name = "version"
    if name not in COMMANDS:
        raise CommandError(_unknown(name))
    return COMMANDS[name].run(arguments[1:])


def _unknown(name: str) -> str:
    near = get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
    what = "expected a command, not" if name.startswith("-") else "unknown command"
    hint = f"; did you mean `flows {near[0]}`?" if near else ""
    return f'{what} "{name}"{hint} (one of {", ".join(COMMANDS)})'


def _explain(error: Exception) -> int:
    """One line on standard error; the trace, too, if FLOWS_DEBUG is set."""
    if os.environ.get("FLOWS_DEBUG"):
        import traceback  # noqa: PLC0415 - only when something went wrong

        traceback.print_exception(error, file=sys.stderr)
    status = _status(error)
    message = escape(str(error) or type(error).__name__)
    if status is None:
        message = f"{type(error).__name__}: {message} (this is a fault of flows; FLOWS_DEBUG=1 shows where)"
        status = FAILED
    print(f"flows: {message}", file=sys.stderr)
    return status


def _status(error: Exception) -> int | None:
    """The exit status of an error that is made for people; None for any other."""
    from flows.cli.backend import PortForwardError  # noqa: PLC0415 - not on the way to --help
    from flows.cli.options import UsageError  # noqa: PLC0415
    from flows.cli.replay import ReplayError  # noqa: PLC0415
    from flows.cli.servers import NoServerError, ServerError  # noqa: PLC0415
    from flows.flow.filter import FilterError  # noqa: PLC0415

    if isinstance(error, CommandError | UsageError | FilterError):
        return USAGE
    if isinstance(error, ServerError):
        return error.status
    return FAILED if isinstance(error, NoServerError | PortForwardError | ReplayError | OSError) else None


def _never_fail_to_encode() -> None:
    """A character that the terminal's encoding has not is shown escaped."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _forget_output() -> None:
    """Keeps the interpreter from complaining, when it ends, that the reader of standard output has gone."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


if __name__ == "__main__":
    sys.exit(main())
