"""`sidecar explain`: what a person reads of it, by a file and by a running sidecar."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sidecar.cli import main
from sidecar.cli.admin_client import TOKEN_VARIABLE
from sidecar.config.load import load_text
from sidecar.errors import (
    AttemptTimeout,
    BreakerOpen,
    BulkheadFull,
    ClientStalled,
    ConnectFailed,
    QueueTimeout,
    RateLimited,
    RequestError,
    TotalTimeout,
)
from sidecar.fate import Fate
from sidecar.pipeline.exchange import Exchange
from sidecar.policy.breaker import FAILURE
from sidecar.telemetry.live import Maintained
from tests.support.admins import Served, admin
from tests.support.exchanges import a_request

ROOT = Path(__file__).parents[2]

SHOP = """\
version: 1
upstreams:
  shop: {url: http://127.0.0.1:9}
breakers:
  database: {consecutive_failures: 2, open_for: 15s, open_jitter: 0%}
routes:
  - {name: orders, match: {path: /orders/**, methods: [GET]}, upstream: shop, breaker: database}
  - {name: rest, match: {path: "/[bold]/**"}, upstream: shop, retry: off}
"""


def explain(*args: str, **env: str) -> Result:
    return CliRunner(env=env).invoke(main, ["explain", *args], prog_name="sidecar")


@pytest.fixture
def file(tmp_path: Path) -> str:
    written = tmp_path / "shop.yaml"
    written.write_text(SHOP)
    return str(written)


# By a file


def test_a_file_alone_is_enough(file: str) -> None:
    told = explain("GET", "http://shop.example/orders/7", "-H", "Cookie: id=1", "--config", file)

    lines = told.stdout.splitlines()
    assert (told.exit_code, told.stderr) == (0, "")
    assert lines[:4] == [
        "GET /orders/7   Host: shop.example",
        "",
        f"route     orders                    {file}:7",
        f"upstream  shop  http://127.0.0.1:9  {file}:3",
    ]
    assert f"  breakers.database.open_for{' ' * 18}15s" in told.stdout
    assert lines[lines.index("stages, outermost first") + 1] == "   1  record"
    assert "now" not in lines


def test_the_same_for_programs_is_one_json_object(file: str) -> None:
    told = json.loads(explain("PUT", "/orders/7", "--config", file, "--format", "json").stdout)

    assert (told["route"], told["answer"]) == (None, "404 no_route")
    assert [each["why"] for each in told["passed_over"]] == ["method is not GET", 'path is not "/[bold]/**"']


def test_what_is_malformed_is_told_as_the_answer_it_would_get(file: str) -> None:
    told = explain("GET", "/", "-H", "Host: a", "-H", "Host: b", "--config", file)

    assert (told.exit_code, told.stdout) == (
        0,
        "\nanswer  400 bad_request  Exactly one Host field is needed.\n",
    )


def test_a_broken_file_is_1_with_its_lines(tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(SHOP.replace("breaker: database", "breaker: databse"))

    told = explain("GET", "/", "--config", str(file))

    assert (told.exit_code, told.stdout) == (1, "")
    assert told.stderr.startswith(f"{file}:7:")


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["GET"],
        ["GET", "/", "--config", "a.yaml", "--admin", "http://127.0.0.1:9901"],
        ["GET", "/", "--request-id", "1"],
        ["--config", "a.yaml", "--request-id", "1"],
        ["GET", "/", "-H", "no-colon"],
        ["GET", "/", "-H", ": no name"],
        ["GET", "/", "--admin", "127.0.0.1:9901"],
        ["GET", "/", "--admin", "http://127.0.0.1:9901/state"],
        ["GET", "/", "--token-file", "/nowhere/to/be/found"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_2(args: list[str]) -> None:
    told = explain(*args)

    assert (told.exit_code, told.stdout) == (2, "")
    assert "Error: " in told.stderr


def test_text_from_outside_is_shown_as_text(file: str) -> None:
    told = explain("GET", "/[bold]/[red]x[/red]", "-H", "X-\x1b[31m: 1", "--config", file)
    fine = explain("GET", "/[bold]/[red]x[/red]", "--config", file)

    assert told.exit_code == 0
    assert "\x1b" not in told.stdout
    assert fine.stdout.startswith("GET /[bold]/[red]x[/red]   Host: localhost (assumed)\n")


def test_colour_is_for_terminals_and_no_color_switches_it_off(file: str) -> None:
    command = [sys.executable, "-m", "sidecar", "explain", "GET", "/[bold]/x", "--config", file]

    assert "\x1b[" in on_a_terminal(command)
    assert "\x1b[" not in on_a_terminal(command, NO_COLOR="1")
    assert "GET /[bold]/x" in on_a_terminal(command)


def on_a_terminal(command: list[str], **env: str) -> str:
    ours, theirs = pty.openpty()
    clean = (
        {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"TERM": "xterm"} | env
    )
    with (
        os.fdopen(ours, "rb", buffering=0) as terminal,
        subprocess.Popen(command, cwd=ROOT, env=clean, stdout=theirs, stderr=theirs) as child,
    ):
        os.close(theirs)
        seen = b""
        try:
            while chunk := terminal.read(65536):
                seen += chunk
        except OSError:  # Linux's word for: nobody has the terminal open any more
            pass
        assert child.wait(20) == 0, seen
    return seen.decode()


# By a running sidecar


@pytest.fixture
def served() -> Iterator[Served]:
    with admin(SHOP) as running:
        yield running


def test_a_running_sidecar_tells_the_same_as_its_file(served: Served, file: str) -> None:
    args = ["GET", "http://shop.example/orders/7?a=b&c", "-H", "Cookie: id=1", "-H", "X: ü"]

    by_file = json.loads(explain(*args, "--config", file, "--format", "json").stdout.replace(file, "<text>"))
    running = json.loads(explain(*args, "--admin", served.url, "--format", "json").stdout)

    assert by_file == running


def test_nothing_in_its_way_is_told_as_well(served: Served) -> None:
    told = explain("GET", "/orders/7", "--admin", served.url)

    lines = told.stdout.splitlines()
    assert lines[lines.index("now") + 1] == "  nothing stands in its way"


def test_an_open_breaker_refuses_it_now(served: Served) -> None:
    served.do(lambda: trip(served))

    told = explain("GET", "/orders/7", "--admin", served.url)

    lines = told.stdout.splitlines()
    assert (told.exit_code, lines[lines.index("now") + 1]) == (
        0,
        "  breaker database is OPEN for 15 s more: an attempt would be refused now",
    )


def test_a_forced_breaker_and_maintenance_are_told(served: Served) -> None:
    def close() -> None:
        served.live.guards.breakers["database"].force_open(served.live.now(), None)
        served.live.maintenance["orders"] = Maintained(0.0, 300.0)

    served.do(close)

    lines = explain("GET", "/orders/7", "--admin", served.url).stdout.splitlines()

    assert lines[lines.index("now") + 1 :][:2] == [
        "  the route is under maintenance: 503, with the word to come back in 5 min",
        "  breaker database is OPEN, forced until somebody resets it: an attempt would be refused now",
    ]


def trip(served: Served, times: int = 2) -> None:
    breaker = served.live.guards.breakers["database"]
    for _ in range(times):
        permit = breaker.enter(served.live.now())
        breaker.settle(permit, FAILURE, served.live.now(), 0.01, "upstream_connect")


def test_why_did_i_get_this_503(served: Served) -> None:
    served.do(lambda: trip(served))
    served.run(refused(served, "the-one"))

    told = explain("--request-id", "the-one", "--admin", served.url)

    assert told.exit_code == 0
    first, came, route, answered, opened, state, attempts, error, hangs = told.stdout.splitlines()
    assert first == "Request the-one: GET /orders/7"
    assert came.startswith("It came from 192.0.2.1 and ended at 20")
    assert route == "Its route is orders."
    assert answered.endswith("it was answered with 503: the circuit breaker is open (rejected_breaker_open).")
    assert opened.startswith("Breaker database had opened at 20")
    assert opened.endswith(" after 2 failures in a row, the first of them with upstream_connect.")
    assert state.startswith("It is OPEN now for 1")
    assert attempts == "The upstream was not asked."
    assert error == "The error, for the operator: BreakerOpen: breaker database."
    assert hangs == (
        "This hangs on breakers.database.consecutive_failures: 2 (<text>:5)"
        " and breakers.database.open_for: 15s (<text>:5)."
    )


def test_the_reason_of_an_outage_is_told_though_trials_have_failed_since(served: Served) -> None:
    def outage() -> None:
        trip(served)
        breaker = served.live.guards.breakers["database"]
        now = served.live.now()
        for later in (20, 60):
            permit = breaker.enter(now + later)
            breaker.settle(permit, FAILURE, now + later, 0.01, "503")

    served.do(outage)
    served.run(refused(served, "the-one"))

    lines = explain("--request-id", "the-one", "--admin", served.url).stdout.splitlines()

    assert lines[4].endswith(" after 2 failures in a row, the first of them with upstream_connect.")
    assert lines[5].startswith("Since then 2 trials have failed, the last at 20")
    assert lines[5].endswith(" with 503.")


async def refused(served: Served, request_id: str) -> None:
    request = a_request("GET", "/orders/7", request_id=request_id, client="192.0.2.1")
    (orders, _) = served.live.pipelines
    reply = await orders.call(Exchange(request, "orders", served.live.now, served.live.recorder))
    reply.close()


LADDER = """\
version: 1
upstreams:
  shop: {url: http://127.0.0.1:9}
breakers:
  database: {preset: prod, open_for: 15s}
bulkheads:
  few: {max_concurrent: 1, max_queue: 0}
defaults:
  timeout: {attempt: 1s}
routes:
  - name: items
    upstream: shop
    breaker: database
    bulkhead: few
    rate_limit: {limit: 7/1m}
    cache: {}
    fallback:
      - {upstream: shop, when: [timeout]}
      - {static: {status: 200}, methods: [HEAD]}
      - stale: {max_age: 20s}
      - static: {status: 503}
"""


def told_of(served: Served, fate: Fate, error: RequestError | None = None, status: int = 503) -> list[str]:
    """The story of a request that ended so."""

    def record() -> None:
        exchange = Exchange(
            a_request("GET", "/x", request_id=f"r-{fate}"), "items", lambda: 0.0, served.live.recorder
        )
        exchange.fate, exchange.status, exchange.error = fate, status, error
        exchange.breaker_was = str(served.live.guards.breakers["database"].state)
        exchange.sink(exchange)

    served.do(record)
    told = explain("--request-id", f"r-{fate}", "--admin", served.url)
    assert (told.exit_code, told.stderr) == (0, "")
    return told.stdout.splitlines()[3:]


def test_a_503_by_a_fallback_is_explained_by_the_failure_that_it_stands_in_for() -> None:
    with admin(LADDER) as served:
        served.do(lambda: trip(served, times=5))
        answered, steps, opened, now, attempts, error, hangs = told_of(
            served, Fate.FALLBACK_STATIC, BreakerOpen("breaker database")
        )

    assert answered == (
        "After 0.0 ms it was answered with 503 by its fallback (fallback_static), in place of a failure:"
        " the circuit breaker is open (rejected_breaker_open)."
    )
    assert steps == (
        "Of its fallback step 1, upstream, is not for breaker_open; step 2, static, is not for GET;"
        " step 3, stale, had no copy that may be served, or none so young:"
        " routes.items.fallback[2].stale.max_age: 20s (<text>:20); step 4, static, answered."
    )
    assert opened.startswith("Breaker database had opened at 20")
    assert opened.endswith(" after 5 failures in a row, the first of them with upstream_connect.")
    assert now.startswith("It is OPEN now for ")
    assert attempts == "The upstream was not asked."
    assert error == "The error, for the operator: BreakerOpen: breaker database."
    assert hangs == (
        "This hangs on breakers.database.consecutive_failures: 5 (preset prod)"
        " and breakers.database.open_for: 15s (<text>:5)."
    )


def test_a_copy_in_place_of_a_5xx_names_no_step_but_its_own() -> None:
    with admin(LADDER) as served:
        answered, steps, *rest = told_of(served, Fate.FALLBACK_STALE, status=200)

    assert answered.endswith("in place of a failure: the upstream answered with a 5xx (upstream_status).")
    assert steps == (
        "Of its fallback step 1, upstream, is not for 5xx; step 2, static, is not for GET; step 3, stale, answered."
    )
    assert rest == ["The upstream was not asked."]


@pytest.mark.parametrize(
    ("fate", "error", "hangs"),
    [
        (
            Fate.REJECTED_BULKHEAD_FULL,
            BulkheadFull(),
            "bulkheads.few.max_concurrent: 1 (<text>:7) and bulkheads.few.max_queue: 0 (<text>:7)",
        ),
        (
            Fate.REJECTED_QUEUE_TIMEOUT,
            QueueTimeout(),
            "bulkheads.few.queue_timeout: 1s (default) and bulkheads.few.max_concurrent: 1 (<text>:7)",
        ),
        (Fate.REJECTED_RATE_LIMIT, RateLimited(), "routes.items.rate_limit.limit: 7/1m (<text>:15)"),
        (Fate.TIMEOUT_ATTEMPT, AttemptTimeout(), "routes.items.timeout.attempt: 1s (<text>:9)"),
        (Fate.TIMEOUT_TOTAL, TotalTimeout(), "routes.items.timeout.total: 15s (default)"),
    ],
)
def test_the_key_that_it_hangs_on_is_named_where_its_value_stands(
    fate: Fate, error: RequestError, hangs: str
) -> None:
    with admin(LADDER) as served:
        lines = told_of(served, fate, error)

    assert lines[1:] == ["The upstream was not asked.", f"This hangs on {hangs}."]


def test_an_error_that_tells_one_side_from_the_other_is_told() -> None:
    with admin(LADDER) as served:
        lines = told_of(served, Fate.TIMEOUT_IDLE, ClientStalled())

    assert "The error, for the operator: ClientStalled." in lines


def test_a_configuration_that_came_after_the_request_is_said_to_have_and_one_without_the_route_says_nothing() -> (
    None
):
    with admin(LADDER) as served:
        served.live.loaded_at += 3600
        later = told_of(served, Fate.TIMEOUT_TOTAL)[-2:]
        served.live.loaded = load_text(SHOP, env={})
        gone = told_of(served, Fate.TIMEOUT_TOTAL)[-1]

    assert later == [
        "This hangs on routes.items.timeout.total: 15s (default).",
        "That is the configuration in force now, which was loaded after that request.",
    ]
    assert gone == "The upstream was not asked."


def test_what_was_tried_and_why_not_again_is_told(served: Served) -> None:
    def record() -> None:
        exchange = Exchange(
            a_request("POST", "/orders/7", request_id="two"), "orders", lambda: 0.0, served.live.recorder
        )
        exchange.attempts = (("upstream_connect", 0.25), ("upstream_connect", 1.5))
        exchange.upstream = "shop"
        exchange.fate = Fate.UPSTREAM_CONNECT
        exchange.status = 502
        exchange.would = ("bulkhead",)
        exchange.error = ConnectFailed("refused by 127.0.0.1:9")
        exchange.sink(exchange)

    served.do(record)

    lines = explain("--request-id", "two", "--admin", served.url).stdout.splitlines()

    assert lines[2:] == [
        "Its route is orders, its upstream shop.",
        "After 0.0 ms it was answered with 502: no connection to the upstream (upstream_connect).",
        "2 attempts were made: 1. upstream_connect after 250.0 ms; 2. upstream_connect after 1.5 s.",
        "In shadow, and so without effect: bulkhead would have refused it.",
        "The error, for the operator: ConnectFailed: refused by 127.0.0.1:9.",
    ]


def test_a_record_that_is_not_there_is_1_and_says_why(served: Served) -> None:
    told = explain("--request-id", "none", "--admin", served.url)

    assert (told.exit_code, told.stdout) == (1, "")
    assert told.stderr.startswith(f"sidecar: {served.url} has no record of 'none': ")


def test_a_token_comes_from_the_environment_or_a_file(tmp_path: Path) -> None:
    token = "0123456789abcdef-secret"
    file = tmp_path / "token"
    file.write_text(f"{token}\n")
    with admin(f"{SHOP}admin: {{token: {token}}}\n") as served:
        args = ["GET", "/orders/7", "--admin", served.url]
        by_env = explain(*args, **{TOKEN_VARIABLE: token})
        by_file = explain(*args, "--token-file", str(file))
        without, wrong = explain(*args), explain(*args, **{TOKEN_VARIABLE: "wrong"})

    assert (by_env.exit_code, by_file.exit_code) == (0, 0)
    assert (without.exit_code, wrong.exit_code) == (1, 1)
    assert without.stderr.startswith(f"sidecar: {served.url}: it asks for a token: ")
    assert wrong.stderr.startswith(f"sidecar: {served.url}: it does not accept this token: ")
    assert token not in by_env.output


def test_nobody_there_is_1_and_one_line(served: Served) -> None:
    served.run(served.stop())

    told = explain("GET", "/", "--admin", served.url)

    assert (told.exit_code, told.stdout) == (1, "")
    assert told.stderr == f"sidecar: {served.url}: Connection refused\n"
