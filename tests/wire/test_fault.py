"""A truncated answer on the wire: its client can tell that it is not whole."""

import pytest

from tests.wire.kit import gateway, get
from tests.wire.upstream import ok

FRAMINGS = {
    "length": (ok(b"hello world"), b"Content-Length: 11", b"hel"),
    "chunked": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello \r\n5\r\nworld\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked",
        b"3\r\nhel\r\n",
    ),
}


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_a_truncated_answer_ends_with_a_reset_and_keeps_its_framing(framing: str) -> None:
    answer, announced, begun = FRAMINGS[framing]
    async with gateway(route={"fault": {"truncate": "3B", "allow_in_production": True}}) as gate:
        gate.upstream.play(answer)
        client = await gate.client()
        await client.send(get())

        head, _, body = (await client.rest()).partition(b"\r\n\r\n")

        assert announced in head.split(b"\r\n")
        assert b"X-Fault-Injected: truncate" in head.split(b"\r\n")
        assert (body, client.ended) == (begun, "reset")
        assert await gate.fates(1) == ["upstream_disconnected"]
