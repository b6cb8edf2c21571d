"""How it starts: ready when it says so, or an exit status and a line that says what is wrong."""

import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from .kit import App, Sidecar, application, arguments, ask, config, dial, sidecar
from .programs import curl


@pytest.fixture
def taken() -> Iterator[str]:
    """An address where somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def failed_start(text: str, folder: Path) -> tuple[int, list[str]]:
    """Start what must not start; give its exit status and what it said on stderr. On stdout it must be silent."""
    with Sidecar(arguments(text, folder)) as failed:
        status = failed.exit_status()
    assert failed.out == []
    assert "Traceback" not in failed.said
    return status, failed.err


def test_a_taken_traffic_port(taken: str, tmp_path: Path) -> None:
    assert failed_start(config("http://127.0.0.1:9", traffic=taken), tmp_path) == (
        3,
        [f"sidecar: listen.traffic: cannot listen on {taken}: the address is in use by another process\n"],
    )


def test_a_taken_ops_port(taken: str, tmp_path: Path) -> None:
    text = config("http://127.0.0.1:9").replace("ops: 127.0.0.1:0", f"ops: {taken}")

    assert failed_start(text, tmp_path) == (
        3,
        [f"sidecar: listen.ops: cannot listen on {taken}: the address is in use by another process\n"],
    )


def test_one_address_for_both(taken: str, tmp_path: Path) -> None:
    """Traffic and ops on one address is a mistake in the file or a failed start, and never half a sidecar."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = f"127.0.0.1:{server.getsockname()[1]}"
    text = config("http://127.0.0.1:9", traffic=free).replace("ops: 127.0.0.1:0", f"ops: {free}")

    status, said = failed_start(text, tmp_path)

    assert status in (1, 3)
    assert free in "".join(said)


def test_an_address_of_another_machine(tmp_path: Path) -> None:
    status, said = failed_start(config("http://127.0.0.1:9", traffic="192.0.2.1:8080"), tmp_path)

    assert status == 3
    assert said == [
        "sidecar: listen.traffic: cannot listen on 192.0.2.1:8080: this machine has no such address\n"
    ]


def test_a_unix_socket_in_use(app: App, tmp_path: Path) -> None:
    """The second sidecar says so and goes; the first one keeps its socket and answers."""
    path = tmp_path / "traffic.sock"
    text = config(app.url, traffic=f"unix://{path}")
    with sidecar(text, tmp_path):
        status, said = failed_start(text, tmp_path)
        answer = curl("--unix-socket", str(path), "http://a/hello")

    assert status == 3
    assert said == [
        f"sidecar: listen.traffic: cannot listen on unix://{path}: the address is in use by another process\n"
    ]
    assert answer == b"hello"


def test_a_stale_unix_socket_is_replaced(app: App, tmp_path: Path) -> None:
    """A socket file that a killed sidecar left behind is nobody's."""
    path = tmp_path / "traffic.sock"
    text = config(app.url, traffic=f"unix://{path}")
    with Sidecar(arguments(text, tmp_path)) as killed:
        killed.first_json("traffic")
        killed.process.kill()
    assert path.is_socket()

    with sidecar(text, tmp_path):
        assert curl("--unix-socket", str(path), "http://a/hello") == b"hello"
    assert not path.exists()


def test_a_file_in_the_place_of_a_unix_socket_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("somebody's data")

    status, said = failed_start(config("http://127.0.0.1:9", traffic=f"unix://{path}"), tmp_path)

    assert status == 3
    assert len(said) == 1
    assert f"listen.traffic: cannot listen on unix://{path}" in said[0]
    assert path.read_text() == "somebody's data"


def test_a_unix_socket_in_no_directory(tmp_path: Path) -> None:
    path = tmp_path / "not-there" / "traffic.sock"

    status, said = failed_start(config("http://127.0.0.1:9", traffic=f"unix://{path}"), tmp_path)

    assert status == 3
    assert len(said) == 1
    assert f"listen.traffic: cannot listen on unix://{path}" in said[0]


def test_a_wrong_configuration(tmp_path: Path) -> None:
    """Every mistake is told at once, with its place."""
    text = (
        "version: 1\n"
        "upstreams:\n"
        "  app: {url: ftp://127.0.0.1, conect_timeout: 1s}\n"
        "routes: [{name: all, upstream: ap}]\n"
        "drain_timeout: 5\n"
    )

    status, said = failed_start(text, tmp_path)

    assert status == 1
    places = [line.rpartition(".yaml:")[2].split(": ")[:2] for line in said]
    assert places == [
        ["3:14", "upstreams.app.url"],
        ["3:31", "upstreams.app.conect_timeout"],
        ["4:32", "routes[0].upstream"],
        ["5:16", "drain_timeout"],
    ]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    args = arguments("", tmp_path)
    Path(args[-1]).unlink()
    with Sidecar(args) as failed:
        status = failed.exit_status()

    assert status == 1
    assert len(failed.err) == 1
    assert args[-1] in failed.err[0]


@pytest.mark.parametrize("side", ["listen", "upstream"])
def test_tls_files_that_hold_nothing(tmp_path: Path, side: str) -> None:
    """A certificate that is none is a mistake in the configuration, told at its line."""
    (tmp_path / "cert.pem").write_text("nothing")
    tls = "tls: {certificate: cert.pem, key: cert.pem}"
    text = config("https://127.0.0.1:9", **{side: tls})

    status, said = failed_start(text, tmp_path)

    place = "listen" if side == "listen" else "upstreams.app"
    assert status == 1
    assert len(said) == 1
    assert said[0].endswith(f": {place}.tls.certificate: holds no certificate in PEM form\n")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/health/live", {"status": "alive"}),
        ("/livez", {"status": "alive"}),
        ("/healthz", {"status": "alive"}),
        ("/health/ready", {"status": "ready"}),
        ("/readyz", {"status": "ready"}),
    ],
)
def test_probes_answer_200(proxy: Sidecar, path: str, body: dict[str, str]) -> None:
    answer = ask(proxy.ops, path)

    assert (answer.status, answer.json()) == (200, body)


def test_probes_do_not_shadow_the_upstream_s_paths(app: App, proxy: Sidecar) -> None:
    """On the traffic port `/health/live` is the upstream's, which has none."""
    assert ask(proxy.traffic, "/health/live").status == 404


def test_ready_although_the_upstream_is_down(tmp_path: Path) -> None:
    """Readiness that followed an upstream would turn its partial outage into a full one."""
    with sidecar(config("http://127.0.0.1:9"), tmp_path) as proxy:
        assert ask(proxy.traffic, "/").status == 502
        assert ask(proxy.ops, "/health/ready").status == 200


def test_starting_costs_less_than_a_second_and_64_mib(app: App, tmp_path: Path) -> None:
    """By processor time, since the wall clock of a busy machine proves nothing."""
    with sidecar(config(app.url), tmp_path) as proxy:
        times = psutil.Process(proxy.pid).cpu_times()
        assert ask(proxy.traffic, "/hello").status == 200
        memory = proxy.rss()

    assert times.user + times.system < 1
    assert memory < 64 << 20


def test_an_upstream_that_starts_later(tmp_path: Path) -> None:
    """Order of start does not matter: 502 before, 200 after."""
    path = tmp_path / "app.sock"
    with sidecar(config(f"unix://{path}"), tmp_path) as proxy:
        before = ask(proxy.traffic, "/hello").status
        with application("--unix", str(path)):
            after = ask(proxy.traffic, "/hello").status

    assert (before, after) == (502, 200)


def test_strangers_write_nothing_to_stderr(app: App, tmp_path: Path) -> None:
    """Whoever reads it may be slow, and what is written there waits for him in the middle of the traffic."""
    with sidecar(config(app.url), tmp_path) as proxy:
        for address in (proxy.ops, proxy.admin):
            for sent in (b"\x16\x03\x01\r\n\r\n", b"GET / HTTP/1.1\r\nHost: l\r\nX: " + b"a" * 9000):
                with dial(address) as connection:
                    connection.sendall(sent)
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(4096):
                        pass
        assert ask(proxy.traffic, "/hello").status == 200

        assert proxy.err == []
