"""Environment: what gRPC reads from it once, when it is imported. Imports nothing of gRPC, so that it can come before.

gRPC's Python API cannot set the lowest version of TLS. TLS 1.2 needs a cipher suite, which GRPC_SSL_CIPHER_SUITES limits,
while those of 1.3 stay as they are: a list of nothing but pre-shared keys, which nobody here has, leaves 1.2 without any.
"""

from __future__ import annotations

import os
import sys
from typing import Final

NO_TLS12_SUITE: Final = "ECDHE-PSK-CHACHA20-POLY1305"


def prepare_grpc() -> bool:
    """Have this process's gRPC speak TLS 1.3 or nothing, and keep its log lines, which say nothing that our errors do not, quiet.

    False if gRPC was imported before, and speaks TLS 1.2, too.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    if only_tls13():
        return True
    if "grpc" in sys.modules:
        return False
    os.environ["GRPC_SSL_CIPHER_SUITES"] = NO_TLS12_SUITE
    return True


def only_tls13() -> bool:
    """Whether prepare_grpc() came in time, in this process or in the one that started it."""
    return os.environ.get("GRPC_SSL_CIPHER_SUITES") == NO_TLS12_SUITE
