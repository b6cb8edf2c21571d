"""The picture of `sidecar top`: what is wrong comes first, every row is one line, and text is text."""

import asyncio
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from sidecar.cli.top_view import picture
from sidecar.telemetry.rates import Rates
from sidecar.telemetry.snapshot import snapshot
from tests.support.live import MINIMAL, live_from
from tests.support.virtual_time import run


def drawn(state: dict[str, Any], width: int = 100, height: int | None = None, note: str = "") -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, color_system=None, highlight=False, markup=False).print(
        picture(state, height=height, note=note)
    )
    return [line.rstrip() for line in out.getvalue().rstrip("\n").split("\n")]


def a_state(**parts: Any) -> dict[str, Any]:
    """Give a state with these parts in the place of an idle sidecar's."""
    idle = {
        "at": 1000.0,
        "name": "shop.yaml",
        "host": "node-7",
        "listen": "0.0.0.0:8080",
        "version": "1.2.3",
        "uptime": 3725.0,
        "status": "healthy",
        "message": "All is well.",
        "ready": True,
        "reason": None,
        "profile": "production",
        "config": {"reload_ok": True, "reload_lines": []},
        "process": {
            "connections": 12,
            "tasks": 3,
            "loop_lag_ms": 0.4,
            "memory": 64 << 20,
            "cpu": 7.4,
            "log_dropped": 0,
        },
        "routes": [],
        "upstreams": [],
        "breakers": [],
        "bulkheads": [],
        "refused": [],
    }
    return idle | parts


def a_breaker(name: str, state: str, **more: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "forced": None,
        "forced_for": None,
        "mode": "enforce",
        "failureRate": 0.0,
        "retry_after": None,
        "trials": 0,
        "rejected": 0,
        "outage": None,
        "last_trip": None,
    }
    return {"name": name, "state": state, **usual, **more}


def an_outage(
    since: float, threshold: str, first_error: str | None, trials_failed: int = 0
) -> dict[str, Any]:
    """Give what a breaker tells of its outage, whose last trip was 4 seconds ago."""
    return {
        "outage": {
            "since": since,
            "cause": "x",
            "threshold": threshold,
            "first_error": first_error,
            "trials_failed": trials_failed,
        },
        "last_trip": {"at": 996.0, "threshold": "1 failed trial", "cause": "x", "first_error": "503"},
    }


def a_route(name: str, **more: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "rate": 0.0,
        "errors": 0.0,
        "p50_ms": None,
        "p99_ms": None,
        "fates": {},
        "failed": {},
        "maintenance": None,
    }
    return {"name": name, **usual, **more}


def a_bulkhead(name: str, in_use: int, queued: int = 0) -> dict[str, Any]:
    return {
        "name": name,
        "in_use": in_use,
        "limit": 4,
        "queued": queued,
        "max_queue": 8,
        "rejected_full": 2,
        "rejected_timeout": 1,
    }


def an_upstream(name: str, **more: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "url": "http://127.0.0.1:9",
        "open": 3,
        "idle": 1,
        "max_connections": 256,
        "availability": None,
        "p50_ms": None,
        "p99_ms": None,
        "health": None,
    }
    return {"name": name, **usual, **more}


def a_refusal(**more: Any) -> dict[str, Any]:
    return {
        "at": 990.0,
        "status": 503,
        "fate": "rejected_breaker_open",
        "route": "orders",
        "method": "GET",
        "path": "/orders/7",
    } | more


BUSY = a_state(
    status="degraded",
    message="Degraded: breaker db is OPEN.",
    routes=[
        a_route("quiet", rate=9.0),
        a_route(
            "orders",
            rate=1.0,
            errors=0.5,
            p50_ms=3.21,
            p99_ms=1520.0,
            fates={"ok": 9, "upstream_status": 3, "timeout_total": 7, "client_gone": 1},
            failed={"upstream_status": 3, "timeout_total": 7},
        ),
        a_route("closed", maintenance={"since": 1.0, "retry_after": 60.0}),
    ],
    breakers=[
        a_breaker("calm", "CLOSED", failureRate=2.5),
        a_breaker(
            "trial",
            "HALF_OPEN",
            trials=1,
            **an_outage(996.0, "5 failures in a row", "upstream_connect"),
        ),
        a_breaker(
            "db",
            "OPEN",
            failureRate=100.0,
            retry_after=12.4,
            rejected=41,
            **an_outage(400.0, "2 failures in a row", None, trials_failed=7),
        ),
        a_breaker("hand", "OPEN", forced="open", forced_for=90.0),
        a_breaker("seen", "OPEN", mode="shadow"),
    ],
    bulkheads=[a_bulkhead("free", 1), a_bulkhead("full", 4, queued=2)],
    upstreams=[
        an_upstream("fine", availability=1.0, health={"healthy": True, "latency_ms": 1.25, "why": None}),
        an_upstream(
            "bad",
            availability=0.925,
            p50_ms=4.0,
            p99_ms=800.0,
            health={"healthy": False, "latency_ms": None, "why": "status 500"},
        ),
    ],
    refused=[a_refusal()],
)


def test_the_whole_picture() -> None:
    assert drawn(BUSY) == [
        "shop.yaml on node-7  0.0.0.0:8080  production  1.2.3",
        "sidecar ▲ degraded  up 1h02m  10 req/s  5.0% errors  12 clients  lag 0.4ms  64 MiB  cpu 7%",
        "Degraded: breaker db is OPEN.",
        "",
        "BREAKER STATE         FAILED REFUSED WHY, AND WHAT NEXT",
        "hand    ■ OPEN forced 0%     0       forced for 90s more",
        "db      ■ OPEN        100%   41      trial in 12s; began 10m ago: 2 failures in a row; 7 trials fai…",
        "trial   ◐ HALF_OPEN   0%     0       1 trial under way; began 4s ago: 5 failures in a row, first up…",
        "seen    ■ OPEN shadow 0%     0",
        "calm    ● CLOSED      2.5%   0",
        "",
        "ROUTE  REQ/S ERRORS P50   P99  WORST FATES SINCE START",
        "closed 0.0   0%     -     -    ▲ maintenance",
        "orders 1.0   50%    3.2ms 1.5s timeout_total 7, upstream_status 3",
        "quiet  9.0   0%     -     -",
        "",
        "BULKHEAD IN USE QUEUED REFUSED",
        "full     4/4    2/8    3       ■ full",
        "free     1/4    0/8    3",
        "",
        "UPSTREAM BUSY  GOOD  P50   P99   PROBE",
        "bad      2/256 92.5% 4.0ms 800ms ■ fails: status 500",
        "fine     2/256 100%  -     -     ● passes, 1.2ms",
        "",
        "NOT GOOD CODE FATE                  ROUTE  REQUEST",
        "10s ago  503  rejected_breaker_open orders GET /orders/7",
    ]


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0.0, "0%"), (0.00001, "0.1%"), (0.0123, "1.2%"), (0.5, "50%"), (0.9996, "99.9%"), (1.0, "100%")],
)
def test_not_all_never_looks_like_all(share: float, shown: str) -> None:
    row = drawn(a_state(upstreams=[an_upstream("x", availability=share)]))[-1]

    assert row.split()[2] == shown


@pytest.mark.parametrize(
    ("trials", "told"),
    [
        (0, "began 10m ago: 5 failures in a row, first 500"),
        (1, "began 10m ago: 5 failures in a row, first 500; 1 trial failed, the last 4s ago with 503"),
        (7, "began 10m ago: 5 failures in a row, first 500; 7 trials failed, the last 4s ago with 503"),
    ],
)
def test_why_a_breaker_opened_first_is_told_before_the_trials_that_failed_since(
    trials: int, told: str
) -> None:
    shown = a_breaker("db", "OPEN", **an_outage(400.0, "5 failures in a row", "500", trials))

    assert drawn(a_state(breakers=[shown]), width=160)[-1] == f"db      ■ OPEN 0%     0       {told}"


def test_a_fallback_that_is_an_error_to_the_caller_is_told_as_one() -> None:
    shown = a_route(
        "items",
        fates={"ok": 90, "fallback_static": 9, "fallback_stale": 2, "upstream_status": 1},
        failed={"ok": 3, "fallback_static": 7, "upstream_status": 1},
    )

    assert drawn(a_state(routes=[shown]))[-1].endswith(" fallback_static as 5xx 7, ok as 5xx 3")


def test_maintenance_of_all_routes_is_no_outage() -> None:
    under = {"since": 1.0, "retry_after": 60.0}
    planned = a_state(
        status="unhealthy",
        message="All routes are under maintenance.",
        routes=[a_route("a", maintenance=under), a_route("b", maintenance=under)],
    )
    stopping = planned | {"ready": False, "reason": "draining"}

    assert drawn(planned)[1].startswith("sidecar ▲ maintenance  up ")
    assert drawn(planned)[2] == "All routes are under maintenance."
    assert drawn(stopping)[1].startswith("sidecar ■ unhealthy  up ")


def test_an_idle_sidecar_has_its_head_alone() -> None:
    assert drawn(a_state()) == [
        "shop.yaml on node-7  0.0.0.0:8080  production  1.2.3",
        "sidecar ● healthy  up 1h02m  0.0 req/s  0% errors  12 clients  lag 0.4ms  64 MiB  cpu 7%",
        "All is well.",
    ]


def test_a_note_stands_above_it_all() -> None:
    assert drawn(a_state(), note="http://127.0.0.1:9901: Connection refused; asking again")[0] == (
        "http://127.0.0.1:9901: Connection refused; asking again"
    )


def test_draining_and_a_refused_reload_are_told() -> None:
    draining = a_state(ready=False, reason="draining")
    refused = a_state(config={"reload_ok": False, "reload_lines": ["a.yaml:3:1: x: is wrong", "more"]})

    assert drawn(draining)[2] == "not ready: draining"
    assert drawn(refused)[2] == "the last reload was refused: a.yaml:3:1: x: is wrong"


def test_state_is_told_by_word_and_shape_and_not_by_colour_alone() -> None:
    lines = drawn(BUSY)

    assert not any("\x1b" in line for line in lines)
    for shape_and_word in (
        "▲ degraded",
        "■ OPEN",
        "◐ HALF_OPEN",
        "● CLOSED",
        "▲ maintenance",
        "■ full",
        "■ fails",
    ):
        assert any(shape_and_word in line for line in lines)


# Small terminals


def crowded(rows: int) -> dict[str, Any]:
    return a_state(
        breakers=[a_breaker(f"breaker-{n}", "OPEN" if n == rows - 1 else "CLOSED") for n in range(rows)],
        routes=[a_route(f"route-{n}", errors=n / rows) for n in range(rows)],
        bulkheads=[a_bulkhead(f"bulkhead-{n}", n % 5) for n in range(rows)],
        upstreams=[an_upstream(f"upstream-{n}") for n in range(rows)],
        refused=[a_refusal(path="/" + "x" * 500) for _ in range(rows)],
    )


def test_rows_are_left_out_and_counted_and_the_worst_are_kept() -> None:
    lines = drawn(crowded(50), width=80, height=24)

    assert len(lines) == 24
    assert [line.split("  ")[0] for line in lines if " of 50" in line] == [
        "BREAKER 4 of 50 STATE",
        "ROUTE 3 of 50 REQ/S ERRORS P50 P99 WORST FATES SINCE START",
        "BULKHEAD 3 of 50 IN USE QUEUED REFUSED",
        "UPSTREAM 3 of 50 BUSY",
        "NOT GOOD 3 of 50 CODE FATE",
    ]
    assert lines[4].startswith("breaker-49")
    assert any(line.startswith("route-49 ") for line in lines)


@pytest.mark.parametrize("rows", [0, 1, 3, 50, 500])
@given(width=st.integers(20, 200), height=st.integers(1, 60))
def test_it_is_never_wider_nor_higher_than_the_terminal(rows: int, width: int, height: int) -> None:
    lines = drawn(crowded(rows), width, height)

    assert len(lines) <= max(height, 3)  # the head is always there
    assert max(map(len, lines)) <= width


def test_what_does_not_fit_a_line_ends_in_an_ellipsis() -> None:
    (row,) = [line for line in drawn(crowded(1), width=60) if line.startswith("10s ago")]

    assert row.endswith("…")


# Hostile text

HOSTILE = "[red]\x1b[2J\r\n\u202e[/red]"


def test_hostile_text_is_shown_as_text() -> None:
    why = an_outage(1.0, HOSTILE, HOSTILE, trials_failed=1)
    why["last_trip"]["first_error"] = HOSTILE
    lines = drawn(
        a_state(
            message=HOSTILE,
            name=HOSTILE,
            host=HOSTILE,
            listen=HOSTILE,
            routes=[a_route(HOSTILE, fates={HOSTILE: 1})],
            breakers=[a_breaker(HOSTILE, "OPEN", **why)],
            bulkheads=[a_bulkhead(HOSTILE, 1)],
            upstreams=[
                an_upstream(HOSTILE, url=HOSTILE),
                an_upstream("x", health={"healthy": False, "why": HOSTILE, "latency_ms": None}),
            ],
            refused=[a_refusal(path=HOSTILE, method=HOSTILE, fate=HOSTILE, route=HOSTILE)],
        ),
        width=400,
        note=HOSTILE,
    )

    text = "\n".join(lines)
    assert not {"\x1b", "\r", "\u202e"} & set(text)
    assert text.count(r"[red]\x1b[2J\r\n") == 19
    assert len(lines) == 4 + 5 + 6 + 5


@given(st.text(max_size=40))
def test_no_name_breaks_the_picture(name: str) -> None:
    plain = drawn(a_state(routes=[a_route("x")], refused=[a_refusal(path="/")]), width=80, height=24)
    lines = drawn(a_state(routes=[a_route(name)], refused=[a_refusal(path=name)]), width=80, height=24)

    assert len(lines) == len(plain)


# The state as it really is


def test_the_state_of_a_real_sidecar_can_be_drawn() -> None:
    async def state() -> dict[str, Any]:
        live = live_from(
            MINIMAL.replace("upstream: service}", "upstream: service, breaker: {}, bulkhead: {}}")
        )
        return snapshot(live, Rates(live, asyncio.get_running_loop()))

    lines = drawn(run(state()))

    assert lines[0].startswith("<text> on ")
    assert [line.split()[0] for line in lines if line][3:] == [
        "BREAKER",
        "all",
        "ROUTE",
        "all",
        "BULKHEAD",
        "all",
        "UPSTREAM",
        "service",
    ]
