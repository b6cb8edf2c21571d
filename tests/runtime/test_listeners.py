"""Binding: the real addresses, or one sentence that names the key and says why not."""

import asyncio
import socket
from pathlib import Path

import pytest

from sidecar.config.address import Address, parse_listen
from sidecar.errors import StartFailed
from sidecar.runtime.listeners import Listener, listen


class Greeter(asyncio.Protocol):
    """Says hello and hangs up."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"hello")
        transport.close()


async def bound(address: Address) -> Listener:
    """Listen for greeters."""
    return await listen(asyncio.get_running_loop(), Greeter, address, "listen.traffic")


async def read_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Read to the end and hang up."""
    came = await reader.read()
    writer.close()
    await writer.wait_closed()
    return came


def port_of(listener: Listener) -> int:
    """Give the port of the only address."""
    (address,) = listener.addresses
    return int(address.rpartition(":")[2])


async def test_port_0_is_any_free_port_and_the_real_one_is_told() -> None:
    listener = await bound(parse_listen("127.0.0.1:0"))

    port = port_of(listener)

    assert port > 0
    assert await read_all(*await asyncio.open_connection("127.0.0.1", port)) == b"hello"
    listener.close()


async def test_a_closed_listener_refuses() -> None:
    listener = await bound(parse_listen("127.0.0.1:0"))
    port = port_of(listener)

    listener.close()
    await asyncio.sleep(0)

    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(StartFailed) as caught:
            await bound(parse_listen(f"127.0.0.1:{port}"))

    assert str(caught.value) == (
        f"listen.traffic: cannot listen on 127.0.0.1:{port}: the address is in use by another process"
    )


@pytest.mark.parametrize("unix", [False, True])
async def test_somebody_else_may_accept(tmp_path: Path, unix: bool) -> None:
    address = parse_listen(f"unix://{tmp_path}/a.sock" if unix else "127.0.0.1:0")
    listener = await listen(asyncio.get_running_loop(), Greeter, address, "listen.ops", accept=False)
    (double,) = listener.doubles()

    with double, socket.socket(double.family) as client:
        client.connect(double.getsockname())
        made, _ = double.accept()
        with made:
            made.sendall(b"by hand")
            assert client.recv(100) == b"by hand"
        listener.close()


async def test_a_port_that_is_taken_is_named_also_where_somebody_else_accepts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(StartFailed) as caught:
            await listen(
                asyncio.get_running_loop(),
                Greeter,
                parse_listen(f"127.0.0.1:{port}"),
                "listen.ops",
                accept=False,
            )

    assert str(caught.value) == (
        f"listen.ops: cannot listen on 127.0.0.1:{port}: the address is in use by another process"
    )


async def test_an_address_that_this_machine_has_not_is_named() -> None:
    with pytest.raises(
        StartFailed, match=r"listen\.traffic: .*192\.0\.2\.1:8080: this machine has no such address"
    ):
        await bound(parse_listen("192.0.2.1:8080"))


async def test_a_unix_socket_is_made_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    listener = await bound(parse_listen(f"unix://{path}"))

    assert listener.addresses == [f"unix://{path}"]
    assert await read_all(*await asyncio.open_unix_connection(path)) == b"hello"
    listener.close()
    assert not path.exists()


async def test_a_unix_socket_that_nobody_listens_on_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
        stale.listen()

    listener = await bound(parse_listen(f"unix://{path}"))

    assert await read_all(*await asyncio.open_unix_connection(path)) == b"hello"
    listener.close()


async def test_a_unix_socket_that_somebody_listens_on_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    with socket.socket(socket.AF_UNIX) as living:
        living.bind(str(path))
        living.listen()

        with pytest.raises(StartFailed, match="the address is in use by another process"):
            await bound(parse_listen(f"unix://{path}"))

        assert path.is_socket()


async def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")

    with pytest.raises(StartFailed, match="not a socket"):
        await bound(parse_listen(f"unix://{path}"))

    assert path.read_text() == "data"


async def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match="No such file or directory"):
        await bound(parse_listen(f"unix://{tmp_path}/missing/app.sock"))


async def test_closing_after_somebody_removed_the_socket_is_no_trouble(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    listener = await bound(parse_listen(f"unix://{path}"))

    path.unlink()

    listener.close()
