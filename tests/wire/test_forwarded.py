"""Whom the sidecar believes about who the client is: nobody but `trusted_proxies` (RFC 7239)."""

import re

import pytest

from tests.wire.kit import Gateway, gateway, get

CLAIMS = (
    b"X-Forwarded-For: 1.2.3.4, 5.6.7.8\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: public.example\r\n"
    b"x-forwarded-port: 443\r\nX-Forwarded-Prefix: /p\r\nX-Forwarded-Anything: x\r\n"
    b"Forwarded: for=1.2.3.4;proto=https\r\n"
)


async def test_a_stranger_is_not_believed(gate: Gateway) -> None:
    await gate.ask(get(fields=CLAIMS))

    (request,) = gate.upstream.requests
    via, request_id = request.values(b"via"), request.values(b"x-request-id")
    assert request.headers == [
        (b"Host", b"a.example"),
        (b"X-Forwarded-For", b"127.0.0.1"),
        (b"X-Forwarded-Proto", b"http"),
        (b"X-Forwarded-Host", b"a.example"),
        (b"Via", via[0]),
        (b"X-Request-ID", request_id[0]),
    ]
    assert gate.records[0].client == "127.0.0.1"


async def test_a_trusted_proxy_is_believed_and_its_chain_is_extended() -> None:
    async with gateway(trusted_proxies=["127.0.0.0/8"]) as gate:
        await gate.ask(get(fields=CLAIMS))

        (request,) = gate.upstream.requests
        assert b", ".join(request.values(b"x-forwarded-for")) == b"1.2.3.4, 5.6.7.8, 127.0.0.1"
        assert request.values(b"x-forwarded-proto") == [b"https"]
        assert request.values(b"x-forwarded-host") == [b"public.example"]
        assert request.values(b"x-forwarded-port") == [b"443"]
        forwarded = b", ".join(request.values(b"forwarded"))
        assert re.fullmatch(rb"for=1\.2\.3\.4;proto=https, for=\"?127\.0\.0\.1\"?;proto=http", forwarded)
        assert gate.records[0].client == "5.6.7.8"


async def test_a_trusted_proxy_that_says_nothing_is_the_client() -> None:
    async with gateway(trusted_proxies=["127.0.0.1"]) as gate:
        await gate.ask(get())

        (request,) = gate.upstream.requests
        assert request.passed_on == [(b"Host", b"a.example")]
        assert request.values(b"x-forwarded-for") == [b"127.0.0.1"]
        assert request.values(b"x-forwarded-proto") == [b"http"]
        assert request.values(b"x-forwarded-host") == [b"a.example"]
        assert gate.records[0].client == "127.0.0.1"


async def test_several_lines_of_one_chain_are_one_chain() -> None:
    async with gateway(trusted_proxies=["127.0.0.1", "10.0.0.0/8"]) as gate:
        await gate.ask(
            get(
                fields=b"X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 1.2.3.4 ,10.0.0.1\r\nX-Forwarded-For: 10.9.9.9\r\n"
            )
        )

        (request,) = gate.upstream.requests
        chain = [hop.strip() for value in request.values(b"x-forwarded-for") for hop in value.split(b",")]
        assert chain == [b"6.6.6.6", b"1.2.3.4", b"10.0.0.1", b"10.9.9.9", b"127.0.0.1"]
        assert gate.records[0].client == "1.2.3.4"


@pytest.mark.parametrize("said", [b"", b"unknown", b",,", b"<script>, \xff", b"10.0.0.1"])
async def test_a_chain_that_makes_no_sense_harms_nobody(said: bytes) -> None:
    async with gateway(trusted_proxies=["127.0.0.1", "10.0.0.0/8"]) as gate:
        response = await gate.ask(get(fields=b"X-Forwarded-For: %b\r\nForwarded: %b\r\n" % (said, said)))

        assert response.status == 200
        assert gate.upstream.requests[0].values(b"x-forwarded-for")[-1].endswith(b"127.0.0.1")


async def test_connection_cannot_remove_what_a_trusted_proxy_says() -> None:
    """A client behind it could otherwise hide its address by listing the field in Connection."""
    async with gateway(trusted_proxies=["127.0.0.1"]) as gate:
        await gate.ask(
            get(fields=CLAIMS + b"Connection: x-forwarded-for, x-forwarded-proto, x-forwarded-host\r\n")
        )

        (request,) = gate.upstream.requests
        assert request.values(b"x-forwarded-for") == [b"1.2.3.4, 5.6.7.8, 127.0.0.1"]
        assert gate.records[0].client == "5.6.7.8"
