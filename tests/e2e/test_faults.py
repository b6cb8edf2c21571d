"""When things around it stop working: the upstream, and whoever reads the log."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic

import pytest

from .kit import (
    App,
    Sidecar,
    application,
    arguments,
    ask,
    config,
    dial,
    free_port,
    pause,
    refuses_connections,
    sidecar,
    until,
)
from .test_stop import Later


def answered(proxy: Sidecar) -> bool:
    """Tell whether a request gets its 200 now."""
    with suppress(OSError):
        return ask(proxy.traffic, "/hello").status == 200
    return False


@pytest.fixture
def own_app() -> Iterator[App]:
    """An upstream that only this test uses, and may ill-treat."""
    with application() as running:
        yield running
        running.send(signal.SIGCONT)


@pytest.mark.parametrize(
    ("timeout", "fate"),
    [("attempt: 300ms, total: 10s", "timeout_attempt"), ("attempt: off, total: 300ms", "timeout_total")],
)
def test_a_stopped_upstream_is_a_504_in_time(own_app: App, tmp_path: Path, timeout: str, fate: str) -> None:
    """A process that is stopped accepts connections and answers nothing. When it goes on, so do the answers."""
    with sidecar(config(own_app.url, route=f"timeout: {{{timeout}}}"), tmp_path) as proxy:
        assert ask(proxy.traffic, "/hello").status == 200
        own_app.send(signal.SIGSTOP)
        started = monotonic()
        answers = [ask(proxy.traffic, "/hello") for _ in range(3)]
        took = monotonic() - started
        own_app.send(signal.SIGCONT)
        after = ask(proxy.traffic, "/hello").status

    assert [(answer.status, answer.json()["code"]) for answer in answers] == [(504, fate)] * 3
    assert {answer.fields["proxy-status"] for answer in answers} == {
        f'sidecar; error=http_response_timeout; details="{fate}"'
    }
    assert 0.9 <= took < 4
    assert after == 200


def test_a_killed_upstream_is_a_502_until_it_is_back(tmp_path: Path) -> None:
    """Nothing has to be told to the sidecar when the upstream returns."""
    port = free_port()
    with sidecar(config(f"http://127.0.0.1:{port}"), tmp_path) as proxy:
        with application("--port", str(port)):
            before = ask(proxy.traffic, "/hello").status
        during = ask(proxy.traffic, "/hello")
        with application("--port", str(port)):
            after = ask(proxy.traffic, "/hello").status

    assert (before, during.status, after) == (200, 502, 200)
    assert during.json()["code"] == "upstream_connect"
    assert during.fields["proxy-status"] == 'sidecar; error=connection_refused; details="upstream_connect"'


def test_a_restart_between_two_requests_is_not_noticed(tmp_path: Path) -> None:
    """The connection that the old process left behind is replaced for a request that may be repeated."""
    port = free_port()
    with sidecar(config(f"http://127.0.0.1:{port}"), tmp_path) as proxy:
        with application("--port", str(port)):
            assert ask(proxy.traffic, "/hello").status == 200
        with application("--port", str(port)):
            assert ask(proxy.traffic, "/hello").status == 200


def test_an_upstream_killed_with_a_request_in_hand(own_app: App, tmp_path: Path) -> None:
    with sidecar(config(own_app.url), tmp_path) as proxy:
        asking = Later(lambda: ask(proxy.traffic, "/held/killed", method="GET"))
        own_app.wait_for("killed", arrived=1)
        own_app.process.kill()
        answer = asking.result()

    # It is asked again, by default, and nobody is there any more.
    assert (answer.status, answer.json()["code"]) == (502, "upstream_connect")


@pytest.mark.parametrize("query", ["", "?chunked"], ids=["length", "chunked"])
def test_an_upstream_killed_in_mid_body(own_app: App, tmp_path: Path, query: str) -> None:
    """The client must see that its body is not whole: the connection ends without the end of the body."""
    with sidecar(config(own_app.url), tmp_path) as proxy, dial(proxy.traffic) as client:
        client.sendall(f"GET /download/broken/{1 << 40}{query} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        own_app.process.kill()
        end = b""
        with suppress(ConnectionResetError):
            while piece := client.recv(1 << 20):
                end = (end + piece)[-5:]
        assert end != b"0\r\n\r\n"

        until(lambda: proxy.clients() == 0, "the client's connection closed")
        metrics = proxy.metrics()
    fate = 'sidecar_requests_total{code="200",fate="upstream_disconnected",method="GET",route="all"}'
    assert metrics[fate] == 1


def test_a_name_that_does_not_exist(tmp_path: Path) -> None:
    with sidecar(config("http://nobody.invalid"), tmp_path) as proxy:
        answer = ask(proxy.traffic, "/")

    assert (answer.status, answer.json()["code"]) == (502, "upstream_connect")
    assert answer.fields["proxy-status"] == 'sidecar; error=dns_error; details="upstream_connect"'
    assert b"nobody" not in answer.body


def test_a_log_that_nobody_reads_stops_nothing(tmp_path: Path) -> None:
    """The pipe is full, lines are dropped and counted, requests are answered, and SIGTERM still ends it with 0."""
    text = config("http://127.0.0.1:9", route="match: {path: /only}", more="access_log: all")
    with Sidecar(arguments(text, tmp_path), read_out=False) as proxy:
        proxy.out.append(proxy.stdout.readline())
        proxy.take_addresses(proxy.first_json("traffic"))
        with dial(proxy.traffic) as client, client.makefile("rb") as answers:
            for _ in range(120):
                client.sendall(b"GET /none HTTP/1.1\r\nHost: a\r\n\r\n" * 100)
                for _ in range(100):
                    assert answers.readline() == b"HTTP/1.1 404 Not Found\r\n"
                    length = 0
                    while (line := answers.readline()) != b"\r\n":
                        if line.startswith(b"Content-Length: "):
                            length = int(line[16:])
                    answers.read(length)
        dropped = proxy.metrics()["sidecar_log_lines_dropped_total"]
        proxy.send(signal.SIGTERM)
        status = proxy.process.wait(10)

    assert dropped > 0
    assert status == 0
    assert "".join(proxy.err) == ""


def test_a_log_whose_reader_has_gone_stops_nothing(app: App, tmp_path: Path) -> None:
    """`sidecar run | head -1`: requests are answered all the same, and the end is an orderly one."""
    text = config(app.url, more="access_log: all")
    with Sidecar(arguments(text, tmp_path), read_out=False) as proxy:
        proxy.out.append(proxy.stdout.readline())
        proxy.take_addresses(proxy.first_json("traffic"))
        proxy.stdout.close()

        assert [ask(proxy.traffic, "/hello").status for _ in range(20)] == [200] * 20
        assert proxy.stop() == 0
    assert "".join(proxy.err) == ""


def test_no_stdout_at_all(app: App, tmp_path: Path) -> None:
    """Some supervisors start their programs with the standard streams closed."""
    ports = free_port(), free_port()
    text = config(app.url, traffic=f"127.0.0.1:{ports[0]}").replace(
        "ops: 127.0.0.1:0", f"ops: 127.0.0.1:{ports[1]}"
    )
    command = arguments(text, tmp_path)
    with Sidecar(["/bin/sh", "-c", 'exec "$@" >&- 2>&- <&-', "sh", *command]) as proxy:
        until(
            lambda: proxy.process.poll() is not None or not refuses_connections(f"127.0.0.1:{ports[0]}"),
            "a listener or an end",
        )
        assert proxy.process.poll() is None
        assert ask(f"127.0.0.1:{ports[0]}", "/hello").status == 200
        assert proxy.stop() == 0


def test_a_full_disk_under_the_log_stops_nothing(app: App, tmp_path: Path) -> None:
    """Every write to /dev/full fails with ENOSPC."""
    ports = free_port(), free_port()
    text = config(app.url, traffic=f"127.0.0.1:{ports[0]}", more="access_log: all")
    text = text.replace("ops: 127.0.0.1:0", f"ops: 127.0.0.1:{ports[1]}")
    command = arguments(text, tmp_path)
    with Sidecar(["/bin/sh", "-c", 'exec "$@" >/dev/full', "sh", *command]) as proxy:
        until(
            lambda: proxy.process.poll() is not None or not refuses_connections(f"127.0.0.1:{ports[0]}"),
            "a listener or an end",
        )
        assert [ask(f"127.0.0.1:{ports[0]}", "/hello").status for _ in range(5)] == [200] * 5
        assert proxy.stop() == 0
    assert "Traceback" not in proxy.said


def test_a_process_that_runs_out_of_files_recovers(app: App, tmp_path: Path) -> None:
    """With every descriptor taken, connections wait or are refused; when some are free again, all is as before."""
    text = config(app.url)
    command = ["/bin/sh", "-c", 'ulimit -n 64; exec "$@"', "sh", *arguments(text, tmp_path)]
    with Sidecar(command) as proxy:
        proxy.take_addresses(proxy.first_json("traffic"))
        clients = [dial(proxy.traffic) for _ in range(100)]
        pause(0.3)
        for client in clients:
            client.close()
        until(lambda: answered(proxy), "an answer after the shortage")
        assert proxy.stop() == 0
    assert "Traceback" not in "".join(proxy.err)


def test_sidecars_in_a_row_pass_things_on(app: App, tmp_path: Path) -> None:
    """Two sidecars, one before the other, are no loop; each adds its own name to Via."""
    with (
        sidecar(config(app.url), tmp_path) as inner,
        sidecar(config(inner.url), tmp_path) as outer,
    ):
        seen = ask(outer.traffic, "/what").json()

    via = [value for name, value in seen["fields"] if name.lower() == "via"]
    assert len(", ".join(via).split(",")) == 2


def test_a_sidecar_before_itself_is_a_loop(tmp_path: Path) -> None:
    """It ends at the second pass, by our own name in Via, and not when everything is used up."""
    port = free_port()
    with sidecar(config(f"http://127.0.0.1:{port}", traffic=f"127.0.0.1:{port}"), tmp_path) as proxy:
        answer = ask(proxy.traffic, "/")
        metrics = proxy.metrics()

    assert answer.status == 508
    assert answer.fields["proxy-status"].startswith("sidecar; error=proxy_loop_detected")
    assert metrics["sidecar_client_connections_accepted_total"] == 2


def test_the_console_script_and_the_module_are_one(tmp_path: Path) -> None:
    """`python -m sidecar` says the same version as the package."""
    done = subprocess.run(
        [sys.executable, "-m", "sidecar", "--version"], capture_output=True, text=True, timeout=20, check=True
    )

    from sidecar.native import COMPILED
    from sidecar.version import VERSION

    assert done.stdout == f"sidecar {VERSION}{', compiled' * COMPILED}\n"
