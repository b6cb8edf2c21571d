"""The connections to one upstream: reused, bounded, replaced once where that is safe (RFC 9110 §9.2.2, RFC 9112 §9.3)."""

import asyncio

import pytest

from tests.wire.kit import Client, Gateway, gateway, get
from tests.wire.upstream import Conn, Hold, close, eventually, fin, gone, ok, reset, settle

POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"


async def hold_many(gate: Gateway, count: int) -> tuple[Hold, list[Client]]:
    """Have `count` requests under way, each on a connection of its own, until the hold is released."""
    hold = Hold()
    clients = []
    for n in range(count):
        gate.upstream.play(hold, ok())
        client = await gate.client()
        await client.send(get(b"/%d" % n))
        clients.append(client)
    await eventually(lambda: len(gate.upstream.heads) == count)
    return hold, clients


async def test_a_connection_is_used_again(gate: Gateway) -> None:
    for _ in range(5):
        await gate.ask(get())

    assert (len(gate.upstream.conns), gate.pool.opened, gate.pool.idle) == (1, 1, 1)


async def test_the_one_used_last_is_used_next(gate: Gateway) -> None:
    """Last in, first out: the others run into their idle timeout."""
    holds = []
    clients = []
    for n in range(3):
        holds.append(Hold())
        gate.upstream.play(holds[n], ok())
        clients.append(await gate.client())
        await clients[n].send(get(b"/%d" % n))
        await eventually(lambda: len(gate.upstream.heads) == n + 1)  # noqa: B023 -- awaited within the turn
    for n in (0, 2, 1):
        holds[n].release()
        await clients[n].response()
    for _ in range(4):
        await gate.ask(get(b"/last"))

    assert [bytes(conn.raw).count(b"/last") for conn in gate.upstream.conns] == [0, 4, 0]


async def test_idle_connections_are_closed_after_their_time() -> None:
    async with gateway(upstream={"idle_timeout": "30ms"}) as gate:
        hold, clients = await hold_many(gate, 3)
        hold.release()
        for client in clients:
            await client.response()
        assert gate.pool.idle == 3

        await eventually(lambda: gate.pool.open == 0)
        assert (await gate.ask(get())).status == 200


async def test_a_connection_that_the_upstream_closed_while_idle_is_not_used(gate: Gateway) -> None:
    gate.upstream.play(ok(), close)
    await gate.ask(get())
    await eventually(lambda: gate.pool.open == 0)

    response = await gate.ask(POST)

    assert (response.status, gate.pool.reconnected) == (200, 0)


@pytest.mark.parametrize("end", [close, reset], ids=["close", "reset"])
@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"])
async def test_a_kept_alive_connection_that_dies_is_replaced_once(
    gate: Gateway, end: object, method: bytes
) -> None:
    await gate.ask(get(b"/first"))
    gate.upstream.play(end)  # type: ignore[arg-type]  # close or reset
    gate.upstream.play(ok(b"again"))

    response = await gate.ask(method + b" /x HTTP/1.1\r\nHost: a\r\n\r\n", method)

    assert response.status == 200
    assert [request.target for request in gate.upstream.requests] == [b"/first", b"/x", b"/x"]
    assert (len(gate.upstream.conns), gate.pool.reconnected) == (2, 1)
    assert await gate.fates(2) == ["ok", "ok"]


@pytest.mark.parametrize("method", [b"POST", b"PATCH", b"FOO"])
async def test_what_may_not_be_repeated_is_not(gate: Gateway, method: bytes) -> None:
    """RFC 9110 §9.2.2: a proxy MUST NOT automatically retry non-idempotent requests."""
    await gate.ask(get(b"/first"))
    gate.upstream.play(close)

    response = await gate.ask(method + b" /x HTTP/1.1\r\nHost: a\r\n\r\n", method)

    assert response.status == 502
    assert [request.target for request in gate.upstream.requests] == [b"/first", b"/x"]
    assert gate.pool.reconnected == 0
    assert await gate.fates(2) == ["ok", "upstream_disconnected"]


async def test_a_body_that_has_left_is_not_repeated(gate: Gateway) -> None:
    """PUT may be repeated, but its body is not kept."""
    await gate.ask(get(b"/first"))
    gate.upstream.play(close)

    response = await gate.ask(b"PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab", b"PUT")

    assert (response.status, len(gate.upstream.requests)) == (502, 2)


async def test_a_new_connection_that_dies_is_not_replaced(gate: Gateway) -> None:
    """Nobody said that it could be stale."""
    gate.upstream.play(close)

    response = await gate.ask(get())

    assert (response.status, len(gate.upstream.requests), gate.pool.reconnected) == (502, 1, 0)


async def test_the_replacement_that_dies_is_not_replaced(gate: Gateway) -> None:
    await gate.ask(get())
    gate.upstream.play(close)
    gate.upstream.play(close)

    response = await gate.ask(get())

    assert (response.status, len(gate.upstream.requests), gate.pool.reconnected) == (502, 3, 1)


async def test_the_replacement_is_a_new_connection(gate: Gateway) -> None:
    """Another idle one may be as dead as the first."""
    hold, clients = await hold_many(gate, 3)
    hold.release()
    for client in clients:
        await client.response()
    gate.upstream.play(close)

    response = await gate.ask(get(b"/x"))

    assert (response.status, len(gate.upstream.conns)) == (200, 4)


@pytest.mark.parametrize(
    "start",
    [b"H", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\n"],
    ids=["byte", "line", "interim"],
)
async def test_an_answer_that_has_begun_is_never_asked_for_again(gate: Gateway, start: bytes) -> None:
    """Replaced is what dies before the *first* byte of a response, an interim one included."""
    await gate.ask(get(b"/first"))
    gate.upstream.play(start, close)

    response = await gate.ask(get(b"/x"))

    assert response.status == 502
    assert [request.target for request in gate.upstream.requests] == [b"/first", b"/x"]
    assert gate.pool.reconnected == 0


async def test_bytes_that_nobody_asked_for_close_an_idle_connection(gate: Gateway) -> None:
    """They must not become the answer to the next request (response splitting)."""
    more = Hold()
    gate.upstream.play(ok(b"mine"), more, ok(b"poison"), gone)
    first = await gate.ask(get())
    more.release()
    await eventually(lambda: gate.pool.open == 0)
    second = await gate.ask(get())

    assert (first.body, second.body) == (b"mine", b"ok")
    assert len(gate.upstream.conns) == 2


@pytest.mark.parametrize(
    "answer",
    [
        ok(b"mine") + ok(b"poison"),
        ok(b"mine") + b"\r\n",
        ok(b"mine") + b"x",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nmine\r\n0\r\n\r\n" + ok(b"poison"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine" + b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
@pytest.mark.parametrize("apart", [False, True], ids=["one segment", "by bytes"])
async def test_bytes_after_an_answer_close_its_connection(gate: Gateway, answer: bytes, apart: bool) -> None:
    gate.upstream.play(*([answer[n : n + 1] for n in range(len(answer))] if apart else [answer]), gone)
    client = await gate.client()
    await client.send(get())
    first = await client.response()
    await eventually(lambda: gate.pool.open == 0)
    await client.send(get())
    second = await client.response()

    assert (first.body, second.body) == (b"mine", b"ok")


@pytest.mark.parametrize("head", [b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 304 Not Modified\r\n\r\n"])
async def test_a_body_where_none_can_be_is_not_the_next_answer(gate: Gateway, head: bytes) -> None:
    gate.upstream.play(head + ok(b"poison"), gone)
    client = await gate.client()
    await client.send(get())
    first = await client.response()
    await client.send(get())
    second = await client.response()

    assert (first.body, second.body) == (b"", b"ok")


async def test_an_upstream_that_half_closes_after_its_answer_is_not_used_again(gate: Gateway) -> None:
    gate.upstream.play(ok(b"1"), fin, gone)
    await gate.ask(get())
    await eventually(lambda: gate.pool.idle == 0)

    assert (await gate.ask(POST)).status == 200


# --- the bound on connections ---


async def test_requests_beyond_the_bound_wait_first_come_first_served() -> None:
    async with gateway(upstream={"max_connections": 2}) as gate:
        hold, clients = await hold_many(gate, 2)
        waiting = []
        for n in range(3):
            waiting.append(await gate.client())
            await waiting[n].send(get(b"/waits-%d" % n))
        assert (gate.pool.open, len(gate.upstream.heads)) == (2, 2)

        hold.release()
        for client in (*clients, *waiting):
            assert (await client.response()).status == 200
        assert [request.target for request in gate.upstream.requests[2:]] == [
            b"/waits-0",
            b"/waits-1",
            b"/waits-2",
        ]
        assert gate.pool.opened == 2


async def test_who_waits_too_long_for_a_connection_is_refused() -> None:
    async with gateway(upstream={"max_connections": 1, "connect_timeout": "30ms"}) as gate:
        hold, clients = await hold_many(gate, 1)

        response = await gate.ask(get(b"/waits"))

        assert response.status == 503
        assert int(response.values(b"retry-after")[0]) >= 1
        assert b'details="rejected_overload"' in response.values(b"proxy-status")[0]
        hold.release()
        assert (await clients[0].response()).status == 200
        assert (await gate.ask(get())).status == 200


async def test_a_client_that_leaves_the_queue_leaves_no_gap() -> None:
    async with gateway(upstream={"max_connections": 1}) as gate:
        hold, clients = await hold_many(gate, 1)
        leaver, stayer = await gate.client(), await gate.client()
        await leaver.send(get(b"/leaver"))
        await stayer.send(get(b"/stayer"))
        leaver.reset()
        await eventually(lambda: len(gate.records) == 1)
        hold.release()

        assert (await clients[0].response()).status == 200
        assert (await stayer.response()).status == 200
        assert [request.target for request in gate.upstream.requests] == [b"/0", b"/stayer"]


async def test_a_broken_connection_makes_room_for_who_waits() -> None:
    async with gateway(upstream={"max_connections": 1}) as gate:
        hold = Hold()
        gate.upstream.play(hold, reset)
        first, second = await gate.client(), await gate.client()
        await first.send(get(b"/1"))
        await eventually(lambda: gate.upstream.heads)
        await second.send(POST)
        hold.release()

        assert [(await first.response()).status, (await second.response()).status] == [502, 200]


async def test_an_upstream_that_is_not_there_is_a_502(gate: Gateway) -> None:
    await gate.upstream.stop()

    response = await gate.ask(get())

    assert response.status == 502
    assert b"connection_refused" in response.values(b"proxy-status")[0]
    assert await gate.fates(1) == ["upstream_connect"]


async def test_an_upstream_that_closes_at_once_fails_every_request_and_leaks_nothing(gate: Gateway) -> None:
    async def refuse(conn: Conn) -> None:
        conn.writer.transport.abort()

    for _ in range(20):
        gate.upstream.play(refuse)
    clients = [await gate.client() for _ in range(20)]
    for client in clients:
        await client.send(get())

    assert {(await client.response()).status for client in clients} == {502}
    await eventually(lambda: gate.pool.open == 0)


async def test_a_silent_upstream_is_given_up_within_its_time_and_its_connection_with_it() -> None:
    async with gateway(route={"timeout": {"attempt": "30ms"}}) as gate:
        gate.upstream.play(gone)

        response = await gate.ask(get())

        assert (response.status, await gate.fates(1)) == (504, ["timeout_attempt"])
        await eventually(lambda: gate.pool.open == 0)
        await eventually(lambda: gate.upstream.conns[0].ended)


async def test_many_at_once_share_what_there_is() -> None:
    async with gateway(upstream={"max_connections": 5}) as gate:
        clients = [await gate.client() for _ in range(60)]
        async with asyncio.TaskGroup() as group:
            for n, client in enumerate(clients):
                group.create_task(client.send(*[get(b"/%d/%d" % (n, turn)) for turn in range(3)]))
        for client in clients:
            for _ in range(3):
                assert (await client.response()).status == 200
        await settle()

        assert (len(gate.upstream.requests), gate.pool.opened) == (180, 5)


async def test_a_pool_that_is_retired_serves_whoever_waits_and_keeps_no_connection() -> None:
    async with gateway(upstream={"max_connections": 1, "connect_timeout": "5s"}) as gate:
        hold, clients = await hold_many(gate, 1)
        gate.upstream.play(ok())
        waiting = await gate.client()
        await waiting.send(get(b"/waits"))
        await eventually(lambda: "1 waiting" in repr(gate.pool))

        gate.pool.retire()
        hold.release()

        assert [(await client.response()).status for client in (*clients, waiting)] == [200, 200]
        await eventually(lambda: gate.pool.open == 0)
        assert (await gate.ask(get(b"/late"))).status == 200
        await eventually(lambda: gate.pool.open == 0)
