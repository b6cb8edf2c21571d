"""Unix sockets on both sides."""

import json
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from .kit import Sidecar, application, config, sidecar
from .pattern import BLOCK
from .programs import curl


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("unix") / "traffic.sock"


@pytest.fixture(scope="module")
def both(path: Path) -> Iterator[Sidecar]:
    """A sidecar between two unix sockets."""
    behind = path.with_name("app.sock")
    with (
        application("--unix", str(behind)),
        sidecar(config(f"unix://{behind}", traffic=f"unix://{path}"), path.parent) as running,
    ):
        yield running


def test_the_ready_line_names_the_socket(both: Sidecar, path: Path) -> None:
    assert both.traffic == f"unix://{path}"


def test_a_request_passes(both: Sidecar, path: Path) -> None:
    """The client has no address: nothing is made up for one, and Host is what the client said."""
    seen = json.loads(curl("--unix-socket", str(path), "http://shop.example/what"))

    fields = dict(seen["fields"])
    assert fields["Host"] == "shop.example"
    assert "127.0.0.1" not in str(seen)


def test_an_http_1_0_request_without_host_gets_one(both: Sidecar, path: Path) -> None:
    """HTTP/1.1 needs a Host, and a unix socket has no name to put there but `localhost`."""
    raw = curl("--http1.0", "--header", "Host:", "--unix-socket", str(path), "http://x/what")

    assert ["Host", "localhost"] in json.loads(raw)["fields"]


def test_bodies_pass_both_ways(both: Sidecar, path: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(BLOCK * 16)

    echoed = curl("--unix-socket", str(path), "--data-binary", f"@{tmp_path / 'file'}", "http://a/echo")

    assert echoed == BLOCK * 16


async def test_a_websocket_passes(both: Sidecar, path: Path) -> None:
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session,
        session.ws_connect("http://a/ws", max_msg_size=0) as socket,
    ):
        await socket.send_bytes(BLOCK)
        assert await socket.receive_bytes(timeout=10) == BLOCK
