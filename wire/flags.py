"""Flags that all servers have: where to listen, and TLS; errors in one line."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from flows.wire.addresses import is_local, listen_address
from flows.wire.tls import ServerFiles, ServerTls, TlsError

if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE = 2  # the exit status of a command line that is not understood


class Parser(argparse.ArgumentParser):
    """Errors in one line, with the nearest spelling, exit status 2."""

    def error(self, message: str) -> NoReturn:
        """Print and end."""
        unknown = re.match(r"unrecognized arguments: (\S+)", message)
        if unknown:
            flags = list(self._option_string_actions)
            near = difflib.get_close_matches(unknown[1].split("=")[0], flags, 1, 0.5)
            hint = f"; did you mean {near[0]}?" if near else f"; see {self.prog} --help"
            message = f"unknown flag {unknown[1]}{hint}"
        printable = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in message)
        sys.stderr.write(f"{self.prog}: {printable}\n")
        sys.exit(USAGE)


def add_server_flags(parser: Parser, listen: Sequence[str], anybody: str, needed: str = "") -> None:
    """--listen, --tls-... and --allow-unauthenticated.

    listen: the default. anybody: what the last one lets anybody do. needed: what else --listen is to say, of credentials.
    """
    add = parser.add_argument
    add("--listen", type=listen_address, action="append", metavar="ADDRESS",
        help=f"host:port or unix:///path, repeatable; default {', '.join(listen)}{needed}")  # fmt: skip
    add("--tls-cert-file", type=Path, metavar="FILE", help="server certificate for TCP listeners off this machine")
    add("--tls-key-file", type=Path, metavar="FILE", help="its key")
    add("--tls-client-ca-file", type=Path, metavar="FILE", help="CA that clients' certificates must come from")
    add("--allow-unauthenticated", action="store_true", help=anybody)


def server_files(words: argparse.Namespace) -> ServerFiles | None:
    """The files of a server's TLS as they are named; None if no certificate is."""
    if words.tls_cert_file is None or words.tls_key_file is None:
        return None
    return ServerFiles(words.tls_cert_file, words.tls_key_file, words.tls_client_ca_file)


def check_files(parser: Parser, files: ServerFiles | None) -> None:
    """Ends the program if the files are no usable certificate, key and CA."""
    if files is None:
        return
    try:
        ServerTls(files)
    except TlsError as error:
        parser.error(str(error))


def open_addresses(listen: Sequence[str]) -> list[str]:
    """Those of the addresses that others can reach."""
    return [address for address in listen if not is_local(address)]
