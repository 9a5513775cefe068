"""ClientHello and ServerHello out of the first bytes of a packet (RFC 8446 section 4, RFC 5246 section 7.4, RFC 6066, RFC 7301).

What the capture or the packet's end cut off is missing, and said so; what contradicts itself is malformed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENT_HELLO, SERVER_HELLO = 1, 2  # handshake types
_HANDSHAKE = 22  # content type of a TLS record
_SERVER_NAME, _ALPN, _SUPPORTED_VERSIONS, _ENCRYPTED_HELLO = 0, 16, 43, 0xFE0D  # extensions; the last: RFC 9849
_RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")  # RFC 8446, section 4.1.3


class MalformedError(ValueError):
    """The bytes are no hello."""


class Hello(NamedTuple):
    """Of either side. Of a ServerHello, lists have what the server chose."""

    client: bool
    cut: bool  # its end was not captured
    name: bytes | None  # SNI, lower case, no dot at the end; None: none was seen
    alpn: tuple[bytes, ...]
    version: int  # the highest offered or the one chosen
    cipher: int  # chosen
    retry: bool  # HelloRetryRequest
    encrypted: bool  # encrypted_client_hello: the name is that of the outer hello; browsers send it also if they encrypt none


class _CutError(Exception):
    """The bytes end here, although more was sent."""


class _Bytes:
    """Bytes that are read from the front; `size` were sent, of which some may not have been captured."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data, self._size, self._at = data, size, 0

    def __bool__(self) -> bool:
        return self._at < self._size

    def take(self, count: int) -> bytes:
        end = self._at + count
        if end > self._size:
            raise MalformedError
        if end > len(self._data):
            raise _CutError
        self._at, taken = end, self._data[self._at : end]
        return taken

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")

    def vector(self, count: int) -> _Bytes:
        """What has a length of `count` bytes before it; maybe cut."""
        size = self.number(count)
        if self._at + size > self._size:
            raise MalformedError
        self._at, data = self._at + size, self._data[self._at : self._at + size]
        return _Bytes(data, size)

    def whole(self, count: int) -> bytes:
        """The same, as bytes, or not at all."""
        return self.take(self.number(count))


class _Found:
    """What was read so far."""

    def __init__(self) -> None:
        self.name: bytes | None = None
        self.alpn: list[bytes] = []
        self.versions: list[int] = []
        self.version = self.cipher = 0
        self.retry = self.encrypted = False


def parse(text: bytes) -> Hello:
    """A hello from the first bytes that were sent at once. Raises MalformedError."""
    message = _handshake(text)
    if len(message) < 4 or message[0] not in (CLIENT_HELLO, SERVER_HELLO):
        raise MalformedError
    client, found = message[0] == CLIENT_HELLO, _Found()
    try:
        _read(_Bytes(message[4:], int.from_bytes(message[1:4], "big")), client, found)
        cut = False
    except _CutError:
        cut = True
    if not found.version:
        raise MalformedError  # not even its first field
    version = max((version for version in found.versions if version >> 8 == 3), default=found.version)
    return Hello(client, cut, found.name, tuple(found.alpn), version, found.cipher, found.retry, found.encrypted)


def _handshake(text: bytes) -> bytes:
    """Content of the handshake records at the beginning: a message may lie in several (RFC 8446, section 5.1)."""
    content, at = b"", 0
    while text[at : at + 1] == bytes((_HANDSHAKE,)) and len(text) >= at + 5:
        size = int.from_bytes(text[at + 3 : at + 5], "big")
        content += text[at + 5 : at + 5 + size]
        at += 5 + size
    return content


def _read(hello: _Bytes, client: bool, found: _Found) -> None:
    found.version = hello.number(2)
    found.retry = hello.take(32) == _RETRY and not client
    hello.whole(1)  # session id
    if client:
        hello.whole(2)  # cipher suites
        hello.whole(1)  # compression methods
    else:
        found.cipher = hello.number(2)
        hello.take(1)
    if hello:
        for kind, content in _extensions(hello.vector(2)):
            _extension(kind, content, client, found)


def _extensions(extensions: _Bytes) -> Iterator[tuple[int, _Bytes]]:
    while extensions:
        yield extensions.number(2), extensions.vector(2)


def _extension(kind: int, content: _Bytes, client: bool, found: _Found) -> None:
    if kind == _ENCRYPTED_HELLO:
        found.encrypted = client
    elif kind == _SUPPORTED_VERSIONS:
        versions = content.vector(1) if client else content
        while versions:
            found.versions.append(versions.number(2))
    elif kind == _ALPN:
        protocols = content.vector(2)
        while protocols:
            found.alpn.append(protocols.whole(1))
    elif kind == _SERVER_NAME and client and content:
        _server_name(content.vector(2), found)


def _server_name(names: _Bytes, found: _Found) -> None:
    while names:
        kind, name = names.number(1), names.whole(2)
        if kind == 0 and found.name is None:  # host_name, the only one there is
            found.name = name.lower().removesuffix(b".")
