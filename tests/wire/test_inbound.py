"""What goes upstream: the client's bytes, but for what concerns one connection only (RFC 9110 §7.6, RFC 9112 §3)."""

import re

import pytest

from sidecar.wire.inbound import ForwardRules
from tests.wire.kit import Gateway, gateway, get
from tests.wire.upstream import eventually, ok

TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    "target",
    [
        b"/",
        b"//",
        b"//a//b",
        b"/a%2Fb%2f%20c",
        b"/%00%ff%E2%82%AC",
        b"/./../a/..",
        b"/a;b=1;c",
        b"/?",
        b"/??a?b",
        b"/?a=1&a=2&b",
        b"/?q=%23+%26",
        b"/a?b=http://x/y",
        b"/~-_.!$&'()*+,:@=",
        b'/"<>[]\\^`{|}',
        b"/a:80/",
        b"/" + b"x" * 8000,
    ],
)
async def test_the_target_goes_on_byte_for_byte(gate: Gateway, target: bytes) -> None:
    response = await gate.ask(get(target))

    assert response.status == 200
    assert [request.target for request in gate.upstream.requests] == [target]


async def test_fields_keep_their_order_case_and_repetition(gate: Gateway) -> None:
    lines = (
        b"x-b: 1\r\nHOST: a.example\r\nX-A: \r\nx-B: two words\r\ncookie: a=1\r\nCookie: b=2\r\nX-Bytes: \xff\xe9 x\r\n"
        b"Accept:text/html\r\nX-Space:  \t y \t \r\naccept: */*\r\nCONTENT-length: 0\r\n"
        b"Expires: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
    )

    await gate.ask(b"GET / HTTP/1.1\r\n" + lines + b"\r\n")

    assert gate.upstream.requests[0].passed_on == [
        (b"x-b", b"1"),
        (b"HOST", b"a.example"),
        (b"X-A", b""),
        (b"x-B", b"two words"),
        (b"cookie", b"a=1"),
        (b"Cookie", b"b=2"),
        (b"X-Bytes", b"\xff\xe9 x"),
        (b"Accept", b"text/html"),
        (b"X-Space", b"y"),
        (b"accept", b"*/*"),
        (b"CONTENT-length", b"0"),
        (b"Expires", b"Thu, 01 Jan 1970 00:00:00 GMT"),
    ]


@pytest.mark.parametrize("coded", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("size", [0, 1, 65_536, 300_000])
async def test_a_body_goes_on_byte_for_byte(gate: Gateway, coded: bool, size: int) -> None:
    body = bytes(range(256)) * (size // 256) + b"\r" * (size % 256)
    head = b"POST /up HTTP/1.1\r\nHost: a.example\r\n"
    client = await gate.client()

    if coded:
        await client.send(head + b"Transfer-Encoding: chunked\r\n\r\n")
        for start in range(0, size, 50_000):
            piece = body[start : start + 50_000]
            await client.send(b"%X;ext=1\r\n%b\r\n" % (len(piece), piece))
        await client.send(b"0\r\n\r\n")
    else:
        await client.send(head + b"Content-Length: %d\r\n\r\n" % size, body)
    response = await client.response(b"POST")

    assert response.status == 200
    (request,) = gate.upstream.requests
    assert (request.method, request.target, request.body) == (b"POST", b"/up", body)
    framing = (b"Transfer-Encoding", b"chunked") if coded else (b"Content-Length", b"%d" % size)
    assert request.passed_on == [(b"Host", b"a.example"), framing]


@pytest.mark.parametrize(
    "method",
    [b"GET", b"PATCH", b"QUERY", b"PROPFIND", b"FOO", b"get", b"M-SEARCH", b"!#$%&'*+-.^_`|~", b"X" * 100],
)
async def test_any_method_goes_on_as_it_is(gate: Gateway, method: bytes) -> None:
    await gate.ask(method + b" / HTTP/1.1\r\nHost: a.example\r\n\r\n", method)

    assert [request.method for request in gate.upstream.requests] == [method]


async def test_fields_of_one_connection_do_not_go_on(gate: Gateway) -> None:
    """RFC 9110 §7.6.1: Connection, what it lists, and the fields that are hop-by-hop whether listed or not."""
    await gate.ask(
        get(
            fields=b"Connection: x-Listed , X-Not-There,,\r\nX-Listed: 1\r\nx-listed: 2\r\nX-Kept: 3\r\n"
            b"Keep-Alive: timeout=5\r\n"
            b"Proxy-Connection: keep-alive\r\nTE: trailers\r\nUpgrade: foo/1\r\nconnection: x-second\r\nX-Second: 4\r\n"
        )
    )

    assert gate.upstream.requests[0].passed_on == [(b"Host", b"a.example"), (b"X-Kept", b"3")]


async def test_connection_cannot_remove_what_frames_or_vouches_for_a_message(gate: Gateway) -> None:
    listed = (
        b"Connection: host, content-length, x-forwarded-for, x-forwarded-proto, via, x-request-id\r\n"
        b"Connection: authorization, cookie"
    )

    await gate.ask(
        b"POST / HTTP/1.1\r\nHost: a.example\r\nAuthorization: s\r\nCookie: c\r\nContent-Length: 2\r\n"
        + listed
        + b"\r\n\r\nab",
        b"POST",
    )

    (request,) = gate.upstream.requests
    assert request.body == b"ab"
    assert request.passed_on == [
        (b"Host", b"a.example"),
        (b"Authorization", b"s"),
        (b"Cookie", b"c"),
        (b"Content-Length", b"2"),
    ]
    assert request.values(b"x-forwarded-for") == [b"127.0.0.1"]
    assert len(request.values(b"via")) == len(request.values(b"x-request-id")) == 1


@pytest.mark.parametrize(
    "name",
    [b"Transfer_Encoding", b"Content_Length", b"X_Forwarded_For", b"x_request_id", b"X_Forwarded-Host"],
)
async def test_a_name_that_only_looks_like_one_of_ours_is_dropped(gate: Gateway, name: bytes) -> None:
    """CGI and WSGI turn both - and _ into _: a service could not tell the forgery from the real one."""
    await gate.ask(get(fields=name + b": 1\r\nX_Other: 2\r\n"))

    assert gate.upstream.requests[0].passed_on == [(b"Host", b"a.example"), (b"X_Other", b"2")]


async def test_an_absolute_target_becomes_a_path_and_its_authority_the_host(gate: Gateway) -> None:
    """RFC 9112 §3.2.2: the received Host MUST be ignored, and replaced by the authority of the target."""
    await gate.ask(b"GET http://real.example:81/a?b HTTP/1.1\r\nX: 1\r\nHost: other.example\r\n\r\n")

    (request,) = gate.upstream.requests
    assert (request.target, request.passed_on) == (b"/a?b", [(b"X", b"1"), (b"Host", b"real.example:81")])
    assert request.values(b"x-forwarded-host") == [b"real.example:81"]


@pytest.mark.parametrize(
    ("method", "asked", "target"),
    [
        (b"GET", b"http://a.example", b"/"),
        (b"GET", b"http://a.example?x=1", b"/?x=1"),
        (b"GET", b"HTTPS://a.example//x", b"//x"),
        (b"OPTIONS", b"http://a.example", b"*"),
        (b"OPTIONS", b"http://a.example/", b"/"),
        (b"OPTIONS", b"*", b"*"),
    ],
)
async def test_each_form_of_a_target_has_its_origin_form(
    gate: Gateway, method: bytes, asked: bytes, target: bytes
) -> None:
    """RFC 9112 §3.2.4: the final proxy sends "*" where an OPTIONS has an absolute target without a path."""
    await gate.ask(method + b" " + asked + b" HTTP/1.1\r\nHost: a.example\r\n\r\n", method)

    assert [request.target for request in gate.upstream.requests] == [target]


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n",
        b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n",
        b"GET / HTTP/1.1\r\nHost: a, b\r\n",
        b"GET / HTTP/1.1\r\nHost: user@a\r\n",
        b"GET / HTTP/1.1\r\nHost: a/b\r\n",
        b"GET / HTTP/1.1\r\nHost: a b\r\n",
        b"GET / HTTP/1.1\r\nHost: a:b\r\n",
        b"GET / HTTP/1.1\r\nHost: [::1\r\n",
        b"GET / HTTP/1.1\r\nHost: \xe9\r\n",
        b"GET http://a:b/ HTTP/1.1\r\nHost: a\r\n",
        b"GET http:///x HTTP/1.1\r\nHost: a\r\n",
        b"GET http://user@a/ HTTP/1.1\r\nHost: a\r\n",
        b"GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: a\r\n",
        b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n",
        b"GET * HTTP/1.1\r\nHost: a\r\n",
        b"GET a.example:80 HTTP/1.1\r\nHost: a\r\n",
        b"GET x HTTP/1.1\r\nHost: a\r\n",
        b"GET /a#b HTTP/1.1\r\nHost: a\r\n",
    ],
)
async def test_a_host_or_target_that_is_not_clear_is_refused(gate: Gateway, head: bytes) -> None:
    client = await gate.client()
    await client.send(head + b"\r\n" + get(b"/after"))
    response = await client.response()

    assert (response.status, await client.rest()) == (400, b"")
    assert gate.upstream.conns == []


async def test_an_http_10_request_without_host_gets_that_of_the_upstream(gate: Gateway) -> None:
    """An HTTP/1.1 request MUST have a Host (RFC 9112 §3.2), and what goes on is one."""
    await gate.ask(b"GET / HTTP/1.0\r\n\r\n")

    (request,) = gate.upstream.requests
    assert (request.minor, request.values(b"host")) == (1, [b"127.0.0.1:%d" % gate.upstream.port])


async def test_connect_is_refused(gate: Gateway) -> None:
    client = await gate.client()
    await client.send(b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n" + get())
    response = await client.response(b"GET")

    assert (response.status, response.values(b"allow") != [], await client.rest()) == (405, True, b"")
    assert gate.upstream.conns == []


async def test_via_names_the_protocol_it_came_with_after_those_before(gate: Gateway) -> None:
    """RFC 9110 §7.6.3: a gateway MUST send Via in a request."""
    await gate.ask(get(fields=b"Via: 1.0 first, 1.1 second (x, y)\r\n"))
    await gate.ask(get(version=b"HTTP/1.0"))

    first, second = (
        [value.split() for value in request.values(b"via")] for request in gate.upstream.requests
    )
    assert first[0] == [b"1.0", b"first,", b"1.1", b"second", b"(x,", b"y)"]
    assert first[1][0] == b"1.1"
    assert second == [[b"1.0", first[1][1]]]


@pytest.mark.parametrize("form", [b"1.1 %b", b"1.0 before, 1.1 %b", b"HTTP/1.1 %b (comment), 1.1 after"])
async def test_a_request_that_was_here_before_is_refused(gate: Gateway, form: bytes) -> None:
    """RFC 9110 §7.6: MUST NOT forward a message to itself."""
    await gate.ask(get())
    name = gate.upstream.requests[0].values(b"via")[0].split()[1]

    response = await gate.ask(get(fields=b"Via: " + form % name + b"\r\n"))

    assert (response.status, len(gate.upstream.requests)) == (508, 1)
    assert b"proxy_loop_detected" in response.values(b"proxy-status")[0]


async def test_an_upstream_that_leads_back_here_is_found_out(gate: Gateway) -> None:
    """A whole loop: the sidecar's upstream is the sidecar."""
    async with gateway(upstream={"url": f"http://{gate.address[0]}:{gate.address[1]}"}) as outer:
        first = await gate.ask(get(b"/here"))
        through = await outer.ask(get(b"/through"))

        assert (first.status, through.status) == (200, 200)
        via = gate.upstream.requests[1].values(b"via")
        assert len(via) == len(set(via)) == 2


@pytest.mark.parametrize("method", [b"OPTIONS", b"TRACE"])
async def test_max_forwards_counts_down_and_ends_here_at_zero(gate: Gateway, method: bytes) -> None:
    """RFC 9110 §7.6.2."""
    start = method + b" /x HTTP/1.1\r\nHost: a.example\r\nCookie: secret\r\nMax-Forwards: "

    passed = await gate.ask(start + b"2\r\n\r\n", method)
    answered = await gate.ask(start + b"0\r\n\r\n", method)

    assert passed.body == b"ok"
    assert [request.values(b"max-forwards") for request in gate.upstream.requests] == [[b"1"]]
    assert answered.status == 200
    assert answered.body.startswith(b"TRACE /x HTTP/1.1\r\n") == (method == b"TRACE")
    assert b"secret" not in answered.body


async def test_max_forwards_means_nothing_to_other_methods(gate: Gateway) -> None:
    await gate.ask(get(fields=b"Max-Forwards: 0\r\n"))

    assert gate.upstream.requests[0].values(b"max-forwards") == [b"0"]


async def test_max_forwards_must_be_a_number(gate: Gateway) -> None:
    response = await gate.ask(b"OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: -1\r\n\r\n", b"OPTIONS")

    assert (response.status, gate.upstream.conns) == (400, [])


async def test_a_request_id_is_kept_and_one_is_made_where_there_is_none(gate: Gateway) -> None:
    gate.upstream.default = ok(fields=b"X-Request-ID: the-upstreams-own\r\n")
    ids = []
    for fields in (
        b"X-Request-ID: mine-1\r\n",
        b"",
        b"X-Request-ID: a b\r\n",
        b"X-Request-ID: " + b"x" * 129 + b"\r\n",
    ):
        response = await gate.ask(get(fields=fields))
        ids.append(response.values(b"x-request-id"))

    assert ids == [request.values(b"x-request-id") for request in gate.upstream.requests]
    assert ids[0] == [b"mine-1"]
    made = [values[0] for values in ids[1:]]
    assert len(set(made)) == 3
    assert all(re.fullmatch(rb"[0-9a-f-]{10,40}", value) for value in made)


@pytest.mark.parametrize(
    "fields",
    [b"traceparent: %b\r\ntracestate: a=1,b=2\r\ntracestate: c=3\r\n" % TRACE, b"tracestate: a=1\r\n", b""],
)
async def test_a_valid_trace_context_goes_on_untouched(gate: Gateway, fields: bytes) -> None:
    await gate.ask(get(fields=fields))

    passed = gate.upstream.requests[0].passed_on[1:]
    assert b"".join(b"%b: %b\r\n" % pair for pair in passed) == fields


async def test_a_future_version_of_the_trace_context_goes_on(gate: Gateway) -> None:
    """W3C Trace Context §3.2.2.1: a higher version may have more after its flags."""
    future = b"cc" + TRACE[2:] + b"-what-the-future-will-be-like"
    await gate.ask(get(fields=b"traceparent: %b\r\n" % future))

    assert gate.upstream.requests[0].values(b"traceparent") == [future]


@pytest.mark.parametrize(
    "lines",
    [
        [b"garbage"],
        [b""],
        [TRACE.upper()],
        [b"ff" + TRACE[2:]],
        [TRACE[:3] + b"0" * 32 + TRACE[35:]],
        [TRACE[:36] + b"0" * 16 + TRACE[52:]],
        [TRACE[:-1]],
        [TRACE + b"."],
        [TRACE + b"-more"],
        [b"cc" + TRACE[2:] + b"."],
        [TRACE, TRACE],
        [TRACE, b"x"],
    ],
)
async def test_an_invalid_trace_context_is_replaced_by_a_new_one(gate: Gateway, lines: list[bytes]) -> None:
    """W3C Trace Context §3.2.2, and the cases of its own test suite (version 00 has nothing after its flags; not two)."""
    sent = b"".join(b"TraceParent: %b\r\n" % line for line in lines)
    await gate.ask(get(fields=sent + b"tracestate: a=1\r\n"))

    (request,) = gate.upstream.requests
    (new,) = request.values(b"traceparent")
    assert re.fullmatch(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-0[01]", new)
    assert new[3:35] != TRACE[3:35]
    assert request.values(b"tracestate") == []


def test_the_memo_of_sections_does_not_mix_what_differs() -> None:
    """The same fields mean other things in HTTP/1.0, and behind a trusted proxy."""
    from ipaddress import ip_network

    from sidecar.wire.inbound import Peer, read_request

    rules = ForwardRules(
        name=b"me", trusted=[ip_network("10.0.0.0/8")], new_id=lambda: b"id", new_traceparent=lambda: TRACE
    )
    fields = b"Host: a\r\nX-Forwarded-For: 1.2.3.4\r\nExpect: 100-continue\r\n\r\n"
    seen = {
        (version, address): read_request(
            b"GET / HTTP/1.%d\r\n" % version + fields, Peer(address, rules), rules
        )[0]
        for version in (0, 1)
        for address in ("10.0.0.1", "11.0.0.1")
    }

    assert {
        key: (request.client, request.keep_alive, request.expects_continue) for key, request in seen.items()
    } == {
        (0, "10.0.0.1"): ("1.2.3.4", False, False),
        (0, "11.0.0.1"): ("11.0.0.1", False, False),
        (1, "10.0.0.1"): ("1.2.3.4", True, True),
        (1, "11.0.0.1"): ("11.0.0.1", True, True),
    }


async def test_no_request_of_ours_waits_for_the_bytes_of_another(gate: Gateway) -> None:
    """Two clients with the same section at once: each gets its own answer."""
    gate.upstream.play(ok(b"first"))
    gate.upstream.play(ok(b"second"))
    one, two = await gate.client(), await gate.client()
    await one.send(get(b"/1"))
    await eventually(lambda: len(gate.upstream.heads) == 1)
    await two.send(get(b"/2"))

    assert ((await one.response()).body, (await two.response()).body) == (b"first", b"second")
