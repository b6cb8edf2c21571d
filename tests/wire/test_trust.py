"""Who is believed: never a peer whose address cannot be told, except on a unix socket."""

import asyncio
from typing import Any, cast

from sidecar.message import Reply, Request
from sidecar.wire.inbound import ForwardRules, Peer, read_request
from sidecar.wire.server import Limits, Server

SPOOF = b"POST / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.9.8.7\r\nX-Forwarded-User: admin\r\n\r\n"


def rules(*, unix: bool = False) -> ForwardRules:
    return ForwardRules(name=b"us", unix=unix, new_id=lambda: b"id", new_traceparent=lambda: b"trace")


class Gone:
    """The transport of a client that has reset its connection already: uvloop cannot tell its address any more."""

    aborted = False

    def get_extra_info(self, _name: str) -> None:
        return None

    def set_write_buffer_limits(self, **_: int) -> None:
        pass

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


def test_a_peer_without_an_address_is_not_trusted() -> None:
    request, _ = read_request(SPOOF, Peer("", rules()), rules())

    assert b"10.9.8.7" not in request.tail
    assert request.fields.values(b"x-forwarded-user") == []


def test_the_peer_of_a_unix_socket_is() -> None:
    request, _ = read_request(SPOOF, Peer("", rules(unix=True)), rules(unix=True))

    assert b"X-Forwarded-For: 10.9.8.7\r\n" in request.tail
    assert request.client == "10.9.8.7"


def test_an_empty_hop_is_trusted_by_nobody() -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6,\r\n\r\n"

    request, _ = read_request(head, Peer("", rules(unix=True)), rules(unix=True))

    assert request.client == ""


async def test_a_client_that_reset_its_connection_at_once_is_not_answered() -> None:
    """What it sent before the reset is still delivered, and must go nowhere."""
    asked: list[Request] = []

    class Handler:
        async def __call__(self, request: Request) -> Reply:
            asked.append(request)
            raise AssertionError

        def refuse(self, *_: Any) -> Reply:
            raise AssertionError

    server = Server(asyncio.get_running_loop(), Handler(), rules(), Limits())
    connection, transport = server(), Gone()

    connection.connection_made(cast("asyncio.Transport", transport))
    if not transport.aborted:
        connection.data_received(SPOOF)
    connection.connection_lost(None)

    assert transport.aborted
    assert (asked, server.connections) == ([], set())
