"""Clients: what a server has to know about programs that call it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import grpc.aio


def understands_extensions(context: grpc.aio.ServicerContext[Any, Any]) -> bool:
    """False for clients in Go: protojson, with which `hubble -o json` prints, fails on an Any of a type that it does not know.

    A Go program that knows flows.v1.FlowExtension asks for it with a field mask.
    """
    agents = [value for key, value in context.invocation_metadata() or () if key == "user-agent"]
    return not any(str(agent).startswith("grpc-go/") or " grpc-go/" in str(agent) for agent in agents)
