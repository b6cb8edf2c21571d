"""The policies in the real process, over real sockets: what the client gets, what the upstream sees, what is counted.

One sidecar serves all of it, one route for each subject; a request names its route in `X-Route`.
"""

import asyncio
import json
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path
from time import time  # noqa: TID251 -- for dates that others read
from typing import Any

import aiohttp
import pytest

from .kit import WITHIN, Answer, App, Sidecar, application, ask, dial, free_port, pause, sidecar, until
from .pattern import BLOCK
from .programs import curl, run_curl
from .service import Service, Turn, breaks, chunked, garbage, holds, reply, service
from .test_stop import Later

RETRY = "retry: {retries: 2, base: 1ms, max: 5ms, budget: off}"
NEVER = "open_for: 1h, open_max: 1h"  # for a breaker: not while the test lasts
SHADOWS = (
    "rate_limit: {limit: 1/1h, key: route, mode: shadow}, "
    "bulkhead: {max_concurrent: 1, max_queue: 0, mode: shadow}, "
    f"breaker: {{consecutive_failures: 2, {NEVER}, mode: shadow}}"
)
ROUTES = {
    # retries
    "again": RETRY,
    "again-all": "retry: {retries: 2, base: 1ms, max: 5ms, methods: all, budget: off}",
    "storm": "upstream: budgeted, retry: {retries: 2, base: 1ms, max: 2ms}",
    # the breaker, and the bulkhead with it
    "opens-501": f"breaker: {{consecutive_failures: 5, count: [5xx], {NEVER}}}",
    "opens-503": f"breaker: {{consecutive_failures: 5, count: [5xx], {NEVER}}}",
    "crowd": "breaker: {consecutive_failures: 1, open_for: 300ms, open_jitter: 0%,"
    " half_open: {max_concurrent: 3, successes: 3}}, bulkhead: {max_concurrent: 1000},"
    " timeout: {attempt: off, total: off}",
    "trials": "breaker: {consecutive_failures: 1, open_for: 10ms, half_open: {successes: 1}}",
    "late": f"breaker: {{consecutive_failures: 2, {NEVER}}}",
    "leave": "breaker: {consecutive_failures: 1}, bulkhead: {max_concurrent: 150, max_queue: 100, queue_timeout: 1m},"
    " timeout: {attempt: off, total: off}",
    # cache, fallback, faults
    "cache": "cache: {}",
    "stale": "cache: {}, fallback: [stale]",
    "stale-anyway": "cache: {}, fallback: [{stale: {override_origin: true}}]",
    "outage": f"upstream: outage, {RETRY}, cache: {{fresh_for: 1ms}}, fallback: [stale],"
    " breaker: {consecutive_failures: 3, open_for: 200ms, half_open: {successes: 1}}",
    "elsewhere": "fallback: [{upstream: standby}]",
    "abort": "fault: {abort: 418, percent: 100%, header: {X-Fault: '*'}, allow_in_production: true}",
    "reset": f"fault: {{reset: true, percent: 100%, allow_in_production: true}}, {RETRY}",
    "truncate": "fault: {truncate: 10KiB, percent: 100%, allow_in_production: true}",
    # limits
    "quota": "rate_limit: {limit: 2/1h, key: 'header:X-Key'}",
    # two that must not differ; their names are of equal length
    "bare": "",
    "dark": SHADOWS,
    # refusals
    "no-rate": "rate_limit: {limit: 1/1h, key: route}",
    "no-breaker": f"breaker: {{consecutive_failures: 1, {NEVER}}}",
    "no-slot": "bulkhead: {max_concurrent: 1, max_queue: 0}",
    "no-turn": "bulkhead: {max_concurrent: 1, max_queue: 1, queue_timeout: 50ms}",
    "no-connection": "upstream: narrow",
    "no-head": "timeout: {attempt: 50ms, total: 10s}",
    "no-time": "timeout: {attempt: off, total: 50ms}",
    "no-upstream": "upstream: nobody",
    "no-answer": "",
    "no-http": "",
    "no-room": "max_body: 4B",
    # all at once, before the aiohttp application
    "everything": f"upstream: app, {RETRY}, rate_limit: {{limit: 1000/1m}}, bulkhead: {{max_concurrent: 20}},"
    " breaker: {consecutive_failures: 5}, cache: {fresh_for: 1m, stale_if_error: 1m}, fallback: [stale],"
    " fault: {delay: 1ms, percent: 100%, header: {X-Fault: '*'}, allow_in_production: true}",
}


@dataclass(frozen=True)
class Stand:
    """The sidecar and what is behind it."""

    proxy: Sidecar
    upstream: Service
    standby: Service
    outage_port: int

    def ask(self, route: str, path: str, headers: dict[str, str] | None = None, **more: Any) -> Answer:
        return ask(self.proxy.traffic, path, headers={"X-Route": route, **(headers or {})}, **more)

    def curl(self, route: str, path: str, *args: str) -> bytes:
        return curl("-H", f"X-Route: {route}", *args, f"{self.proxy.url}{path}")

    def raw(self, route: str, path: str, *, method: str = "GET", more: str = "") -> bytes:
        """Give a request's bytes; the answer ends with the connection."""
        head = f"{method} {path} HTTP/1.1\r\nHost: a\r\nX-Route: {route}\r\n{more}Connection: close\r\n\r\n"
        return head.encode()

    def record(self, answer: Answer) -> dict[str, Any]:
        """Wait for the line that the log has on this answer."""
        request_id = answer.fields["x-request-id"]

        def find() -> dict[str, Any] | None:
            lines = (line for line in self.proxy.events("request") if line["request_id"] == request_id)
            return next(lines, None)

        found = until(find, f"a line on {request_id}")
        assert found is not None
        return found

    def hold(self, clients: ExitStack, route: str, path: str) -> None:
        """Send a request, and wait until it has come to the upstream."""
        key = path.split("/")[1]
        before = len(self.upstream.seen(key))
        client = clients.enter_context(dial(self.proxy.traffic))
        client.sendall(self.raw(route, path))
        until(lambda: len(self.upstream.seen(key)) > before, f"{path} at the upstream")

    def state(self, breaker: str) -> str:
        """Give the state of a breaker, in the metrics' word for it."""
        metrics = self.proxy.metrics()
        (state,) = [
            state
            for state in ("CLOSED", "OPEN", "HALF_OPEN")
            if metrics[f'sidecar_breaker_state{{breaker="{breaker}",state="{state}"}}'] == 1
        ]
        return state

    def in_use(self, bulkhead: str) -> float:
        return self.proxy.metrics()[f'sidecar_bulkhead_in_use{{bulkhead="{bulkhead}"}}']


@pytest.fixture(scope="module")
def stand(app: App, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    outage, nobody = free_port(), free_port()
    with service() as upstream, service() as standby:
        text = (
            "version: 1\n"
            "listen: {traffic: '127.0.0.1:0', ops: 127.0.0.1:0, admin: 127.0.0.1:0}\n"
            "access_log: all\n"
            "upstreams:\n"
            f"  service: {{url: '{upstream.url}'}}\n"
            f"  budgeted: {{url: '{upstream.url}'}}\n"
            f"  narrow: {{url: '{upstream.url}', max_connections: 1, connect_timeout: 500ms}}\n"
            f"  standby: {{url: '{standby.url}'}}\n"
            f"  outage: {{url: 'http://127.0.0.1:{outage}'}}\n"
            f"  nobody: {{url: 'http://127.0.0.1:{nobody}'}}\n"
            f"  app: {{url: '{app.url}'}}\n"
            "defaults: {retry: off}\n"
            "routes:\n"
        )
        for name, settings in ROUTES.items():
            upstream_of = "" if settings.startswith("upstream: ") else "upstream: service, "
            text += (
                f"  - {{name: {name}, match: {{headers: {{X-Route: {name}}}}}, {upstream_of}{settings}}}\n"
            )
        with sidecar(text, tmp_path_factory.mktemp("policies")) as proxy:
            yield Stand(proxy, upstream, standby, outage)


# --- retries ---


def test_a_retry_is_told_to_the_upstream_and_to_the_client(stand: Stand) -> None:
    stand.upstream.play("told", reply(503), reply(503))

    answer = stand.ask("again", "/told")
    plain = stand.ask("again", "/told")

    assert (answer.status, answer.body, answer.fields["x-upstream-attempts"]) == (200, b"hello", "3")
    told = [one.fields.get("x-retry-attempt") for one in stand.upstream.seen("told")]
    assert told == [None, "1", "2", None]
    assert (plain.status, "x-upstream-attempts" in plain.fields) == (200, False)
    record = stand.record(answer)
    assert (record["fate"], [one["result"] for one in record["attempts"]]) == (
        "ok_after_retry",
        ["status_5xx", "status_5xx", "ok"],
    )


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_a_body_of_3_mib_is_delivered_whole_and_once(stand: Stand, method: str) -> None:
    """It is too large to be kept; that costs it the retry, and nothing else."""
    key, body = f"large-{method}", BLOCK * 3
    stand.upstream.play(key, reply(503, b"not now"))

    answer = stand.ask("again-all", f"/{key}", method=method, body=body)

    assert (answer.status, answer.body) == (503, b"not now")
    assert [(one.whole, one.body == body) for one in stand.upstream.seen(key)] == [(True, True)]
    record = stand.record(answer)
    assert (record["fate"], record["why_not_retried"]) == ("upstream_status", "body_too_large")
    blocked = 'sidecar_retry_blocked_total{reason="body_too_large",route="again-all"}'
    assert stand.proxy.metrics()[blocked] >= 1


@pytest.mark.parametrize("failure", ["a 503", "a reset in the middle of the upload"])
def test_a_body_of_500_kib_is_sent_again_byte_for_byte(stand: Stand, failure: str) -> None:
    key, body = failure.replace(" ", "-"), BLOCK[: 500 << 10]
    stand.upstream.play(key, reply(503) if failure == "a 503" else breaks(after=200_000))

    answer = stand.ask("again", f"/{key}", method="PUT", body=body)

    assert (answer.status, answer.body, answer.fields["x-upstream-attempts"]) == (200, b"hello", "2")
    first, second = stand.upstream.seen(key)
    assert (first.whole, bytes(first.body) == body[: len(first.body)]) == (failure == "a 503", True)
    assert (second.whole, bytes(second.body) == body) == (True, True)
    assert second.fields["content-length"] == str(len(body))


def test_a_post_is_not_sent_twice_unless_the_route_says_so(stand: Stand) -> None:
    stand.upstream.play("once", then=breaks(after=5))

    answer = stand.ask("again", "/once", method="POST", body=b"order")

    assert (answer.status, len(stand.upstream.seen("once"))) == (502, 1)
    assert stand.record(answer)["why_not_retried"] == "method"


def test_a_date_in_retry_after_is_waited_for(stand: Stand) -> None:
    due = int(time()) + 2
    stand.upstream.play("dated", reply(503, Retry_After=formatdate(due, usegmt=True)))

    answer = stand.ask("again", "/dated")

    first, second = stand.upstream.seen("dated")
    assert (answer.status, answer.fields["x-upstream-attempts"]) == (200, "2")
    assert first.at < due
    assert second.at >= due - 0.01


def test_an_outage_costs_the_upstream_a_fifth_more_than_it_is_asked_for(stand: Stand) -> None:
    """The budget: 20 % of the requests, and ten of its floor of one a second in a window of ten."""
    stand.upstream.play("storm", then=reply(503))

    answers = [stand.ask("storm", "/storm") for _ in range(150)]

    assert {answer.status for answer in answers} == {503}
    # A slow run has more floor: one a second.
    assert 150 < len(stand.upstream.seen("storm")) <= 150 * 1.2 + 10 + WITHIN
    assert stand.record(answers[-1])["why_not_retried"] == "budget"


# --- the breaker ---


@pytest.mark.parametrize("status", [501, 503])
def test_a_breaker_leaves_an_upstream_alone_that_always_fails(stand: Stand, status: int) -> None:
    """A single upstream, and every one of its 5xx counts: five attempts, and 95 refusals at once."""
    route = f"opens-{status}"
    stand.upstream.play(route, then=reply(status))

    answers = [stand.ask(route, f"/{route}") for _ in range(100)]

    assert [answer.status for answer in answers] == [status] * 5 + [503] * 95
    assert {answer.json()["code"] for answer in answers[5:]} == {"rejected_breaker_open"}
    assert len(stand.upstream.seen(route)) == 5
    (opened,) = [line for line in stand.proxy.events("breaker.opened") if line["breaker"] == route]
    assert (opened["cause"], opened["first_error"]) == ("consecutive_failures", str(status))


async def crowd(address: str, request: bytes, number: int, answered: list[bytes]) -> None:
    """Let so many clients connect, then ask all at once; their answers are added to `answered` as they come."""
    host, _, port = address.rpartition(":")
    clients = [await asyncio.open_connection(host, int(port)) for _ in range(number)]

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(request)
        answered.append(await reader.read(-1))
        writer.close()

    await asyncio.gather(*(one(*client) for client in clients))


def test_a_crowd_at_an_upstream_that_may_be_well_again_is_as_many_trials_as_configured(stand: Stand) -> None:
    """1000 requests at once find the breaker's time to be over: the upstream sees three of them."""
    stand.upstream.play("crowd", reply(500), then=holds("crowd"))
    assert stand.ask("crowd", "/crowd").status == 500
    assert stand.ask("crowd", "/crowd").json()["code"] == "rejected_breaker_open"
    pause(0.4)  # longer than it is open; nobody looks meanwhile, so that the crowd is who finds out
    answered: list[bytes] = []
    crowding = Later(
        lambda: asyncio.run(crowd(stand.proxy.traffic, stand.raw("crowd", "/crowd"), 1000, answered))
    )

    until(lambda: len(answered) == 997 or not crowding.is_alive(), "all but the trials are answered")
    trials = len(stand.upstream.seen("crowd")) - 1
    stand.upstream.open("crowd")
    crowding.result()

    assert trials == 3
    statuses = [answer.split(b" ", 2)[1] for answer in answered]
    assert (statuses.count(b"200"), statuses.count(b"503")) == (3, 997)
    assert all(b'details="rejected_breaker_open"' in answer for answer in answered if b" 503 " in answer[:20])
    assert (stand.state("crowd"), stand.in_use("crowd")) == ("CLOSED", 0)


def test_trials_whose_clients_leave_do_not_leave_the_breaker_half_open(stand: Stand) -> None:
    stand.upstream.play("trials", reply(500), *[holds("never")] * 25)
    assert stand.ask("trials", "/trials").status == 500
    pause(0.05)
    for number in range(1, 26):
        with dial(stand.proxy.traffic) as client:
            client.sendall(stand.raw("trials", "/trials"))
            until(lambda: len(stand.upstream.seen("trials")) > number, f"trial {number}")  # noqa: B023 -- called here
            leave(client)
        until(lambda: stand.upstream.seen("trials")[-1].left, f"the end of trial {number}")

    assert stand.state("trials") == "HALF_OPEN"
    assert stand.ask("trials", "/trials").status == 200
    assert stand.state("trials") == "CLOSED"


def leave(client: socket.socket) -> None:
    """Close with a reset."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def test_a_success_from_before_the_trip_changes_nothing(stand: Stand) -> None:
    stand.upstream.play("late", holds("late"), reply(503), reply(503))
    early = Later(lambda: stand.ask("late", "/late"))
    until(lambda: len(stand.upstream.seen("late")) == 1, "the slow one at the upstream")
    assert [stand.ask("late", "/late").status for _ in range(2)] == [503, 503]
    assert stand.state("late") == "OPEN"

    stand.upstream.open("late")

    assert early.result().status == 200
    assert stand.state("late") == "OPEN"
    assert stand.ask("late", "/late").json()["code"] == "rejected_breaker_open"


def test_200_clients_who_leave_open_no_breaker_and_hold_no_slot(stand: Stand) -> None:
    """Some with a reset and some without, 150 of them with a slot and 50 in the queue."""
    stand.upstream.play("leave", then=holds("never"))
    clients = [dial(stand.proxy.traffic) for _ in range(200)]
    for client in clients:
        client.sendall(stand.raw("leave", "/leave"))
    queued = 'sidecar_bulkhead_queued{bulkhead="leave"}'
    until(lambda: len(stand.upstream.seen("leave")) == 150, "150 at the upstream")
    until(lambda: stand.proxy.metrics()[queued] == 50, "50 in the queue")

    for number, client in enumerate(clients):
        client.close() if number % 4 == 0 else leave(client)

    fate = 'sidecar_requests_total{code="499",fate="client_gone",method="GET",route="leave"}'
    until(lambda: stand.proxy.metrics().get(fate) == 200, "all of them noticed")
    until(lambda: all(one.left for one in stand.upstream.seen("leave")), "the upstream's calls cancelled")
    metrics = stand.proxy.metrics()
    assert (metrics[queued], metrics['sidecar_bulkhead_in_use{bulkhead="leave"}']) == (0, 0)
    cancelled = 'sidecar_upstream_attempts_total{result="cancelled",route="leave",upstream="service"}'
    # Who was in the queue may have got the slot of one who left a moment before him, and begun to ask.
    assert 150 <= len(stand.upstream.seen("leave")) <= metrics[cancelled] <= 200
    assert stand.state("leave") == "CLOSED"
    stand.upstream.play("left", reply())
    assert stand.ask("leave", "/left").status == 200


# --- outages ---


def test_an_outage_is_bridged_with_marked_copies_and_ends_by_itself(stand: Stand) -> None:
    port = str(stand.outage_port)
    with application("--port", port):
        first = stand.ask("outage", "/hello")
    during = [stand.ask("outage", "/hello") for _ in range(6)]
    never_seen = stand.ask("outage", "/never-seen")
    written = stand.ask("outage", "/hello", method="PUT", body=b"change")
    probes = [ask(stand.proxy.ops, f"/health/{probe}").status for probe in ("live", "ready")]
    with application("--port", port):
        until(lambda: "x-system-degraded" not in stand.ask("outage", "/hello").fields, "recovery")
        after = stand.ask("outage", "/hello")

    assert (first.status, first.body, "x-system-degraded" in first.fields) == (200, b"hello", False)
    marks = ("x-system-degraded", "x-fallback-source")
    assert {(one.status, one.body) for one in during} == {(200, b"hello")}
    assert {tuple(one.fields[mark] for mark in marks) for one in during} == {("true", "stale")}
    reasons = [one.fields["proxy-status"].partition("details=")[2].strip('"') for one in during]
    assert reasons[0] == "upstream_connect"
    assert set(reasons) <= {"upstream_connect", "rejected_breaker_open"}
    assert stand.record(during[0])["fate"] == "fallback_stale"
    for failed in (never_seen, written):
        code = failed.json()["code"]
        assert (failed.status, code) in [(502, "upstream_connect"), (503, "rejected_breaker_open")]
    assert probes == [200, 200]
    assert (after.status, after.body) == (200, b"hello")
    until(lambda: stand.state("outage") == "CLOSED", "a closed breaker")
    assert {line["breaker"] for line in stand.proxy.events("breaker.closed")} >= {"outage"}


@pytest.mark.parametrize(
    ("route", "control", "served"),
    [
        ("stale", "max-age=0", True),
        ("stale", "max-age=0, must-revalidate", False),
        ("stale-anyway", "max-age=0, must-revalidate", True),
        ("stale-anyway", "no-store", False),
    ],
)
def test_what_must_be_revalidated_is_not_served_stale_unless_overridden(
    stand: Stand, route: str, control: str, *, served: bool
) -> None:
    key = f"{route}-{control}".replace(" ", "").replace("=", "-").replace(",", "-")
    stand.upstream.play(
        key, reply(200, b"old", Cache_Control=control, ETag='"one"'), then=reply(503, b"down")
    )
    assert stand.ask(route, f"/{key}").status == 200

    answer = stand.ask(route, f"/{key}")

    if served:
        assert (answer.status, answer.body, answer.fields["x-fallback-source"]) == (200, b"old", "stale")
    else:
        assert (answer.status, answer.body, "x-fallback-source" in answer.fields) == (503, b"down", False)


@pytest.mark.parametrize("failure", ["a 503", "a reset in the middle of the upload"])
def test_another_upstream_gets_the_whole_body(stand: Stand, failure: str) -> None:
    key, body = "else-" + failure.replace(" ", "-"), BLOCK[: 300 << 10]
    stand.upstream.play(key, reply(503) if failure == "a 503" else breaks(after=100_000))
    stand.standby.play(key, reply(201, b"from the standby"))

    answer = stand.ask("elsewhere", f"/{key}", method="PUT", body=body)

    assert (answer.status, answer.body) == (201, b"from the standby")
    assert (answer.fields["x-system-degraded"], answer.fields["x-fallback-source"]) == ("true", "upstream")
    (got,) = stand.standby.seen(key)
    assert (got.method, got.whole, bytes(got.body) == body) == ("PUT", True, True)
    assert stand.record(answer)["fate"] == "fallback_upstream"


# --- rate limits ---


def test_each_key_has_a_quota_of_its_own(stand: Stand) -> None:
    """Who sends no key shares one with the others who send none."""
    answers: dict[str, list[Answer]] = {}
    for key in ("ann", "bob", "", "ann", "bob", "", "ann", "bob", "", "ann"):
        answers.setdefault(key, []).append(stand.ask("quota", "/quota", {"X-Key": key} if key else {}))

    statuses = {key: [answer.status for answer in got] for key, got in answers.items()}
    assert statuses == {"ann": [200, 200, 429, 429], "bob": [200, 200, 429], "": [200, 200, 429]}
    assert [one.fields["x-ratelimit-remaining"] for one in answers["ann"]] == ["1", "0", "0", "0"]
    assert answers["bob"][2].fields["ratelimit-policy"] == '"quota";q=2;w=3600'
    assert 0 < int(answers["bob"][2].fields["retry-after"]) <= 1800
    assert len(stand.upstream.seen("quota")) == 6
    assert stand.proxy.metrics()['sidecar_rate_limit_keys{route="quota"}'] == 3


# --- the cache ---


def head_of(answer: bytes) -> dict[str, str]:
    """Give the fields that `curl --include` shows, names in small letters, and the status as `:status`."""
    start, *lines = answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return {":status": start.split()[1], **fields}


def test_curl_gets_a_copy_a_head_and_a_304_from_one_answer(stand: Stand) -> None:
    stand.upstream.play("copy", then=reply(200, b"a copy of this", Cache_Control="max-age=60", ETag='"one"'))

    first = stand.curl("cache", "/copy", "--include")
    second = stand.curl("cache", "/copy", "--include")
    head = head_of(stand.curl("cache", "/copy", "--head"))
    unchanged = stand.curl("cache", "/copy", "--include", "-H", 'If-None-Match: "one"')

    assert len(stand.upstream.seen("copy")) == 1
    assert (head_of(first)["cache-status"], head_of(first).get("age")) == (
        "sidecar; fwd=uri-miss; stored",
        None,
    )
    assert [answer.partition(b"\r\n\r\n")[2] for answer in (first, second)] == [b"a copy of this"] * 2
    for fields in (head_of(second), head, head_of(unchanged)):
        assert fields["cache-status"].startswith("sidecar; hit; ttl=")
        assert (fields["etag"], "age" in fields) == ('"one"', True)
    assert (head[":status"], head["content-length"]) == ("200", "14")
    assert (head_of(unchanged)[":status"], unchanged.partition(b"\r\n\r\n")[2]) == ("304", b"")


@pytest.mark.parametrize("who", ["Cookie: session=ann", "Authorization: Bearer ann"])
def test_nobody_gets_a_copy_of_what_was_for_somebody(stand: Stand, who: str) -> None:
    key = "for-" + who.partition(":")[0]
    turns = [reply(200, text, Cache_Control="max-age=60") for text in (b"for ann", b"for all", b"for bob")]
    stand.upstream.play(key, *turns)

    hers = stand.curl("cache", f"/{key}", "-H", who)
    everybodys = [stand.curl("cache", f"/{key}") for _ in range(2)]
    his = stand.curl("cache", f"/{key}", "-H", who.replace("ann", "bob"))

    assert (hers, everybodys, his) == (b"for ann", [b"for all", b"for all"], b"for bob")
    assert len(stand.upstream.seen(key)) == 3


def test_fifty_identical_requests_at_once_are_one(stand: Stand) -> None:
    stand.upstream.play("same", holds("same", reply(200, b"the same", Cache_Control="max-age=60")))
    answered: list[bytes] = []
    crowding = Later(
        lambda: asyncio.run(crowd(stand.proxy.traffic, stand.raw("cache", "/same"), 50, answered))
    )
    until(lambda: stand.upstream.seen("same"), "the first one at the upstream")
    pause(0.2)  # the others come to wait for it; one that is later finds the copy
    stand.upstream.open("same")
    crowding.result()

    assert len(stand.upstream.seen("same")) == 1
    assert [(one[9:12], one.partition(b"\r\n\r\n")[2]) for one in answered] == [(b"200", b"the same")] * 50
    how = [one.partition(b"Cache-Status: sidecar; ")[2].partition(b"\r\n")[0] for one in answered]
    led, shared = how.count(b"fwd=uri-miss; stored"), how.count(b"fwd=uri-miss; collapsed")
    assert (led, shared + sum(one.startswith(b"hit; ") for one in how)) == (1, 49)
    assert shared > 0


# --- faults ---


def test_curl_sees_an_injected_status(stand: Stand) -> None:
    fields = head_of(stand.curl("abort", "/abort", "--include", "-H", "X-Fault: please"))

    assert (fields[":status"], fields["x-fault-injected"]) == ("418", "abort")
    assert stand.upstream.seen("abort") == []
    assert stand.curl("abort", "/abort") == b"hello"


def test_an_injected_reset_is_retried_like_one_of_the_upstreams(stand: Stand) -> None:
    """And what the client sees is our answer to it: its own connection is well."""
    answer = stand.curl("reset", "/reset", "--include")

    fields = head_of(answer)
    assert (fields[":status"], fields["x-fault-injected"], fields["x-upstream-attempts"]) == (
        "502",
        "reset",
        "3",
    )
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "upstream_disconnected"
    assert stand.upstream.seen("reset") == []


@pytest.mark.parametrize(
    "turn", [reply(200, BLOCK[:50_000]), chunked(BLOCK[:50_000])], ids=["length", "chunked"]
)
def test_curl_sees_a_truncated_body_as_an_error(stand: Stand, tmp_path: Path, turn: Turn) -> None:
    stand.upstream.play("truncate", turn)
    file = tmp_path / "body"

    done = run_curl("-H", "X-Route: truncate", "--output", str(file), f"{stand.proxy.url}/truncate")

    assert done.returncode in (18, 56)  # a partial file, or a reset before it was read
    got = file.read_bytes() if file.exists() else b""
    assert len(got) <= 10 << 10
    assert got == BLOCK[: len(got)]


# --- shadow ---


def exchange(stand: Stand, request: bytes) -> bytes:
    """Give the whole answer, to the byte, but for its time."""
    with dial(stand.proxy.traffic) as client:
        client.sendall(request)
        answer = b""
        with suppress(ConnectionResetError):
            while piece := client.recv(1 << 16):
                answer += piece
    head, gap, body = answer.partition(b"\r\n\r\n")
    return b"\r\n".join(line for line in head.split(b"\r\n") if not line.startswith(b"Date: ")) + gap + body


def test_policies_in_shadow_change_no_byte_of_any_answer(stand: Stand) -> None:
    """Over the quota, with every slot taken, and with a breaker that would be open: the client cannot tell."""
    turns: list[Turn] = [
        *[reply(500, b"broken")] * 3,
        reply(200, b"well", Cache_Control="max-age=60", X_Own="value"),
        chunked(b"one", b"two" * 1000),
        reply(404, b"not here"),
        reply(200, b"for a HEAD"),
        reply(201, b"created"),
        reply(304, b"", ETag='"one"'),
        reply(503, b"later", Retry_After="7"),
        breaks(),
        garbage(),
    ]
    methods = {6: "HEAD", 7: "POST"}

    def play(route: str) -> list[bytes]:
        stand.upstream.play(f"{route}-held", holds(f"{route}-held"))
        for number, turn in enumerate(turns):
            stand.upstream.play(f"{route}-{number}", then=turn)
        with ExitStack() as clients:
            stand.hold(clients, route, f"/{route}-held")  # it has the only slot
            answers = [
                exchange(
                    stand,
                    stand.raw(
                        route,
                        f"/{route}-{number}",
                        method=methods.get(number, "GET"),
                        more=f"X-Request-ID: shadow-{number:08}\r\n",
                    ),
                )
                for number in range(len(turns))
            ]
            stand.upstream.open(f"{route}-held")
        return answers

    bare, dark = play("bare"), play("dark")

    assert [answer.replace(b"dark", b"bare") for answer in dark] == bare
    assert [answer[9:12] for answer in bare] == [
        *[b"500"] * 3,
        b"200",
        b"200",
        b"404",
        b"200",
        b"201",
        b"304",
        b"503",
        b"502",
        b"502",
    ]
    for number in range(
        len(turns) - 2
    ):  # what breaks is sent anew where it was a connection that had been used
        (plain,) = stand.upstream.seen(f"bare-{number}")
        (shadowed,) = stand.upstream.seen(f"dark-{number}")
        assert (plain.fields.pop("x-route"), shadowed.fields.pop("x-route")) == ("bare", "dark")
        assert (shadowed.method, shadowed.fields, shadowed.body) == (plain.method, plain.fields, plain.body)
    metrics = stand.proxy.metrics()
    would = {
        policy: metrics[f'sidecar_shadow_would_total{{action="reject",name="dark",policy="{policy}"}}']
        for policy in ("rate_limit", "bulkhead", "breaker")
    }
    # The first two attempts trip the breaker; all but the one that was held are over the quota and without a slot.
    assert would == {"rate_limit": len(turns), "bulkhead": len(turns), "breaker": len(turns) - 2}
    (line,) = [
        line
        for line in stand.proxy.events("request")
        if line["request_id"] == "shadow-00000005" and line["route"] == "dark"
    ]
    assert line["would_reject"] == ["rate_limit", "breaker", "bulkhead"]


# --- refusals and failures ---


def fails_first(stand: Stand, clients: ExitStack) -> None:
    stand.upstream.play("no-breaker", reply(500))
    assert stand.ask("no-breaker", "/no-breaker").status == 500


def uses_up(stand: Stand, clients: ExitStack) -> None:
    assert stand.ask("no-rate", "/no-rate").status == 200


def takes(route: str) -> Callable[[Stand, ExitStack], None]:
    """Take the only slot, or the only connection, of a route."""

    def take(stand: Stand, clients: ExitStack) -> None:
        stand.upstream.play(f"{route}-held", holds(f"{route}-held"))
        stand.hold(clients, route, f"/{route}-held")

    return take


def plays(route: str, turn: Turn) -> Callable[[Stand, ExitStack], None]:
    def play(stand: Stand, clients: ExitStack) -> None:
        stand.upstream.play(route, then=turn)

    return play


def nothing(stand: Stand, clients: ExitStack) -> None:
    """Need no preparation."""


REFUSALS: dict[str, tuple[Callable[[Stand, ExitStack], None], int, str]] = {
    "no-rate": (uses_up, 429, "rejected_rate_limit"),
    "no-breaker": (fails_first, 503, "rejected_breaker_open"),
    "no-slot": (takes("no-slot"), 503, "rejected_bulkhead_full"),
    "no-turn": (takes("no-turn"), 503, "rejected_queue_timeout"),
    "no-connection": (takes("no-connection"), 503, "rejected_overload"),
    "no-head": (plays("no-head", holds("never")), 504, "timeout_attempt"),
    "no-time": (plays("no-time", holds("never")), 504, "timeout_total"),
    "no-upstream": (nothing, 502, "upstream_connect"),
    "no-answer": (plays("no-answer", breaks()), 502, "upstream_disconnected"),
    "no-http": (plays("no-http", garbage()), 502, "upstream_bad_response"),
    "no-room": (nothing, 413, "bad_request"),
    "no-route": (nothing, 404, "no_route"),
}


@pytest.mark.parametrize("route", REFUSALS)
def test_every_refusal_has_one_word_in_body_field_metric_and_log(stand: Stand, route: str) -> None:
    """And none is without a reason; where waiting may help it says for how long, in the field and in the body."""
    before, status, word = REFUSALS[route]
    body = b"too much" if route == "no-room" else None
    with ExitStack() as clients:
        before(stand, clients)
        answer = stand.ask(route, f"/{route}", method="GET" if body is None else "PUT", body=body)

    problem = answer.json()
    assert (answer.status, problem["status"], problem["code"]) == (status, status, word)
    assert answer.fields["proxy-status"].partition("details=")[2] == f'"{word}"'
    assert problem["request_id"] == answer.fields["x-request-id"]
    record = stand.record(answer)
    assert (record["fate"], record["status"]) == (word, status)
    method = "GET" if body is None else "PUT"
    metric = (
        f'sidecar_requests_total{{code="{status}",fate="{word}",method="{method}",route="{record["route"]}"}}'
    )
    assert stand.proxy.metrics()[metric] == 1
    if status in (429, 503):
        assert int(answer.fields["retry-after"]) == problem["retry_after"] >= 1
    assert answer.fields["cache-control"] == "no-store"
    assert parsedate_to_datetime(answer.fields["date"]).timestamp() > time() - 60


# --- everything on ---

EVERYTHING = {"X-Route": "everything"}


async def test_a_websocket_passes_through_every_policy_and_holds_its_slot_to_the_end(stand: Stand) -> None:
    """For the breaker a switch of protocols is a success: it ends the run of failures before it."""

    async def fail(session: aiohttp.ClientSession, times: int) -> list[int]:
        statuses = []
        for _ in range(times):
            async with session.get(f"{stand.proxy.url}/status/500") as response:
                statuses.append(response.status)
        return statuses

    async with aiohttp.ClientSession(headers=EVERYTHING) as session:
        failed = await fail(session, 4)
        async with session.ws_connect(f"{stand.proxy.url}/ws", max_msg_size=0) as tunnel:
            for turn in range(3):
                await tunnel.send_bytes(BLOCK)
                await tunnel.send_str(f"turn {turn}")
                assert await tunnel.receive_bytes(timeout=10) == BLOCK
                assert await tunnel.receive_str(timeout=10) == f"turn {turn}"
            during = await asyncio.to_thread(stand.in_use, "everything")
        await asyncio.to_thread(until, lambda: stand.in_use("everything") == 0, "the slot given back")
        failed += await fail(session, 4)

    assert (during, failed) == (1, [500] * 8)
    assert await asyncio.to_thread(stand.state, "everything") == "CLOSED"
    assert stand.ask("everything", "/hello").status == 200  # which ends the run for the tests after this


def test_events_pass_through_every_policy_when_they_are_sent(stand: Stand, app: App) -> None:
    """Nothing waits for the end of a body that has none: not the cache, and nobody who asks for the same."""
    key = "events-through-everything"
    request = stand.raw("everything", f"/sse/{key}", more="Accept: text/event-stream\r\n")
    with dial(stand.proxy.traffic) as one, dial(stand.proxy.traffic) as two:
        streams = []
        for client in (one, two):
            client.sendall(request)
            stream = client.makefile("rb")
            streams.append(stream)
            until(lambda: b"data: one\n" in stream.readline(), "the first event")  # noqa: B023 -- called here
        during = stand.in_use("everything")
        app.open(key)
        rest = [stream.read() for stream in streams]

    assert during == 2
    assert all(b"data: two\n\n" in text and b"data: one" not in text for text in rest)
    until(lambda: stand.in_use("everything") == 0, "the slots given back")


def test_a_download_that_is_left_gives_its_slot_back_through_every_policy(stand: Stand, app: App) -> None:
    with dial(stand.proxy.traffic) as client:
        client.sendall(stand.raw("everything", "/download/left-everything/999999999"))
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
        during = stand.in_use("everything")
        leave(client)

    assert during == 1
    app.wait_for("left-everything", cancelled=1)
    until(lambda: stand.in_use("everything") == 0, "the slot given back")
    assert stand.state("everything") == "CLOSED"
