"""A resolver for tests of lookups: the queries that libcs make of one name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from answer_samples import VIP, A, Pod, Query, ordered

if TYPE_CHECKING:
    from flows.proto.flow_pb2 import Flow

SEARCH = ("demo.svc.cluster.local", "svc.cluster.local", "cluster.local")
OTHER_SERVER = Pod("", "10.96.0.11", service="kube-system/kube-dns")
EXTERNAL, SAME, ELSEWHERE = "api.example.com", "svc-b", "svc-b.prod"


class Resolver:
    """Queries as a libc makes them, one after the other from `at` on."""

    def __init__(self, client: Pod = A, at: float = 0.0) -> None:
        self.client, self.at, self.queries = client, at, list[Query]()

    def ask(self, name: str, qtype: str = "A", *, wait: float = 0.001, **fields: object) -> Resolver:
        number = len(self.queries) + 1 + round(self.at * 1_000_000)
        values = {
            "name": name,
            "qtype": qtype,
            "client": self.client,
            "at": self.at,
            "number": number,
            "query_id": number & 0xFFFF,
        }
        query = Query(**(values | {"port": 30_000 + len(self.queries)} | fields))  # type: ignore[arg-type]
        self.queries.append(query)
        self.at += wait
        return self

    def pair(self, name: str, rcode: int = 0, **fields: object) -> Resolver:
        """A and AAAA at once, as glibc and musl do; AAAA has no address."""
        self.ask(name, "A", wait=0.0001, rcode=rcode, **fields)
        return self.ask(name, "AAAA", wait=0.002, rcode=rcode, ips=(), **fields)

    def glibc(self, name: str, found: str, ndots: int = 5) -> Resolver:
        """The whole search of a name; found: the one that exists, "" for none."""
        tries = [f"{name}.{suffix}" for suffix in SEARCH]
        tries = [*tries, name] if name.count(".") < ndots else [name, *tries]
        for each in tries:
            self.pair(each, rcode=0 if each == found else 3)
            if each == found:
                break
        return self

    def musl(self, name: str, found: str, ndots: int = 5) -> Resolver:
        """As glibc, but to both servers at once, and no suffix for a name with enough dots."""
        tries = [name] if name.count(".") >= ndots else [*(f"{name}.{suffix}" for suffix in SEARCH), name]
        for each in tries:
            rcode = 0 if each == found else 3
            for server in (VIP, OTHER_SERVER):
                self.ask(each, "A", wait=0, rcode=rcode, server=server)
                self.ask(each, "AAAA", wait=0, rcode=rcode, ips=(), server=server)
            self.at += 0.002
            if each == found:
                break
        return self

    def flows(self) -> list[Flow]:
        return ordered(flow for query in self.queries for flow in query.flows())
