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
from sidecar.errors import ConnectFailed
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


def trip(served: Served) -> None:
    breaker = served.live.guards.breakers["database"]
    for _ in range(2):
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
    assert hangs == "This hangs on routes.orders.breaker."


async def refused(served: Served, request_id: str) -> None:
    request = a_request("GET", "/orders/7", request_id=request_id, client="192.0.2.1")
    (orders, _) = served.live.pipelines
    reply = await orders.call(Exchange(request, "orders", served.live.now, served.live.recorder))
    reply.close()


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
