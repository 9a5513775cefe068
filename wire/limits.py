"""Limits: what gRPC connections may cost, and how soon a dead one is noticed.

https://github.com/grpc/grpc/blob/master/doc/keepalive.md has what the keep-alive options mean and gRPC's defaults.
"""

from __future__ import annotations

from typing import Final

Options = list[tuple[str, str | int]]

REQUEST_BYTES: Final = 1 << 20  # the largest request is a list of filters; 1 MiB is thousands of them
BATCH_BYTES: Final = 64 << 20  # a batch of 4,096 flows has 2 MB, of long names and URLs ten times that
METADATA_BYTES: Final = 32 << 10  # tokens of identity providers list groups and pass gRPC's 8 KiB
STREAMS: Final = 1_000  # calls at once on one connection; a relay has two or three per follower
# Servers drop a client that is gone without a word (a laptop that sleeps) after these two together.
SERVER_PING_MS: Final = 60_000
PING_ANSWER_MS: Final = 10_000
# Clients may ping this often, also without a call: gRPC's own minimum for those that set nothing lower.
ACCEPTED_PING_MS: Final = 10_000
# gRPC servers of all languages take more than two pings in 5 minutes without data, or any without a call, as an attack
# (GOAWAY too_many_pings). A call is never refused so: peers are asked something every 30 s, and TCP gives up on them
# PING_ANSWER_MS after data that is not acknowledged (gRPC sets TCP_USER_TIMEOUT to it).
CLIENT_PING_MS: Final = 310_000


def server_options() -> Options:
    """Options of a server that strangers may reach."""
    return [
        ("grpc.so_reuseport", 0),  # a second server on the same port is a mistake, not load balancing
        ("grpc.max_receive_message_length", REQUEST_BYTES),
        ("grpc.max_send_message_length", BATCH_BYTES),
        ("grpc.max_metadata_size", METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", METADATA_BYTES),
        ("grpc.max_concurrent_streams", STREAMS),
        ("grpc.keepalive_time_ms", SERVER_PING_MS),
        ("grpc.keepalive_timeout_ms", PING_ANSWER_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", ACCEPTED_PING_MS),
    ]


def client_options(user_agent: str) -> Options:
    """Options of a channel to one server of any origin."""
    return [
        ("grpc.primary_user_agent", user_agent),
        ("grpc.enable_http_proxy", 0),  # a proxy for web browsing leads to no cluster
        ("grpc.service_config_disable_resolution", 1),  # else a TXT record of a name could change how we call
        ("grpc.enable_retries", 0),  # who calls decides; gRPC would keep every message for it
        ("grpc.use_local_subchannel_pool", 1),  # a new channel is a new connection, with the certificates of now
        ("grpc.max_receive_message_length", BATCH_BYTES),
        ("grpc.keepalive_time_ms", CLIENT_PING_MS),
        ("grpc.keepalive_timeout_ms", PING_ANSWER_MS),
        ("grpc.keepalive_permit_without_calls", 0),
    ]
