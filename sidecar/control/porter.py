"""Who opens the door of the ops listener: a thread that answers probes itself and leads everybody else to the loop.

A turn of the event loop serves every connection that is ready, so with a thousand busy clients it takes tens of
milliseconds; a new connection to aiohttp needs about three turns (accept, read, the handler's task), and a kubelet that
is impatient restarts a sidecar for nothing but having much to do. A thread does not wait for turns. It needs the
interpreter's lock a few times for some microseconds, and CPython hands that over within `sys.getswitchinterval()`, 5 ms
(Python's documentation of `sys.setswitchinterval`; most often sooner, as the loop lets it go in each system call). For
that reason there are as few system calls as will do: each may mean waiting for the lock once more.

What has come of anything that is not a probe (`control/probes.py`) goes along to the loop, so nothing is lost: aiohttp
serves that connection from its first octet to its end, behind the same gate as ever.

Bounds: `MOST` connections here, the oldest is closed for a newcomer; a whole head within `HEAD_TIMEOUT` of its making,
and within `KEEP_ALIVE` of an answer. As many again may wait for a loop that does not take them: the longest waiting is
closed.
A fault costs the connection that it came from, is told to the loop's exception handler, and never ends the thread.
"""

import asyncio
import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Final

from sidecar.control.gate import HEAD_TIMEOUT, MOST
from sidecar.control.probes import MOST_HEAD, Probe, Pulse, answer, read

__all__ = ["KEEP_ALIVE", "Porter"]

KEEP_ALIVE = 30.0  # seconds; aiohttp's, too (`SERVING`)

_AT_ONCE: Final = socket.MSG_DONTWAIT  # spares the system call that makes a socket non-blocking
_PATIENCE = 2.0  # seconds for the thread to end
_PAUSE = 0.1  # seconds after a fault, such as no file for another connection; else it could only spin
_QUIET = 10.0  # seconds between two faults that are told


@dataclass(slots=True, eq=False)
class _Visitor:
    socket: socket.socket
    until: float
    came: bytes = b""
    watched: bool = False


class _Begun(asyncio.Protocol):
    """Makes way for a connection's protocol, which it gives what has come already, before anything else can be read."""

    def __init__(self, factory: Callable[[], asyncio.Protocol], came: bytes) -> None:
        self._factory = factory
        self._came = came

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        protocol = self._factory()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(self._came)


class Porter:
    """Takes the connections of `listening`, which become its own. `start` and `stop` on the loop.

    `factory` gives the protocol of a connection that is led to the loop.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listening: Sequence[socket.socket],
        factory: Callable[[], asyncio.Protocol],
        pulse: Pulse,
        *,
        most: int = MOST,
        head_timeout: float = HEAD_TIMEOUT,
        keep_alive: float = KEEP_ALIVE,
    ) -> None:
        self._loop = loop
        self._listening = listening
        self._factory = factory
        self._pulse = pulse
        self._most = most
        self._head_timeout = head_timeout
        self._keep_alive = keep_alive
        self._selector = selectors.DefaultSelector()
        self._bell, self._rope = socket.socketpair()
        self._visitors: dict[_Visitor, None] = {}  # in the order in which they came
        self._waiting: deque[_Visitor] = deque()
        self._entering: set[asyncio.Task[None]] = set()
        self._stopping = threading.Event()
        self._told_at = float("-inf")
        self._thread = threading.Thread(target=self._run, name="probes", daemon=True)

    def start(self) -> None:
        """Open the door."""
        self._pulse.start()
        self._selector.register(self._bell, selectors.EVENT_READ)
        for each in self._listening:
            each.setblocking(False)
            self._selector.register(each, selectors.EVENT_READ)
        self._thread.start()

    def stop(self) -> None:
        """Close the door, and every connection that has not been led to the loop. Returns when the thread has ended."""
        self._pulse.stop()
        self._stopping.set()
        with suppress(OSError):
            self._rope.send(b"x", _AT_ONCE)
        self._thread.join(_PATIENCE)
        for task in self._entering:
            task.cancel()
        while self._waiting:
            self._waiting.popleft().socket.close()

    # --- in the thread ---

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                try:
                    self._turn()
                except Exception as fault:  # noqa: BLE001 -- probes must be answered whatever happens
                    self._tell(fault)
                    self._stopping.wait(_PAUSE)
        finally:
            for each in (
                *self._listening,
                *(visitor.socket for visitor in self._visitors),
                self._bell,
                self._rope,
            ):
                each.close()
            self._selector.close()

    def _turn(self) -> None:
        wait = None
        if self._visitors:
            wait = max(0.0, min(visitor.until for visitor in self._visitors) - monotonic())
        for key, _ in self._selector.select(wait):
            if key.data is not None:
                if key.data in self._visitors:  # and has not made room for another in this very turn
                    self._serve(key.data)
            elif key.fileobj is not self._bell:
                assert isinstance(key.fileobj, socket.socket)  # noqa: S101 -- what was registered
                self._let_in(key.fileobj)
        now = monotonic()
        for visitor in [visitor for visitor in self._visitors if visitor.until <= now]:
            self._leave(visitor)

    def _let_in(self, listening: socket.socket) -> None:
        try:
            made, _ = listening.accept()
        except (BlockingIOError, ConnectionError):
            return  # it has gone already
        except OSError as fault:
            self._tell(fault)
            self._stopping.wait(_PAUSE)
            return
        visitor = _Visitor(made, monotonic() + self._head_timeout)
        if len(self._visitors) >= self._most:
            self._leave(next(iter(self._visitors)))
        self._visitors[visitor] = None
        self._serve(visitor)  # most have sent their request by now: there is no need to watch such a socket

    def _serve(self, visitor: _Visitor) -> None:
        """Take what has come, and do what can be done with it."""
        try:
            if self._has_ended(visitor):
                self._leave(visitor)
            else:
                self._watch(visitor)
        except OSError:
            self._leave(visitor)  # it was reset
        except Exception as fault:  # noqa: BLE001 -- it costs this connection, not the thread
            self._leave(visitor)
            self._tell(fault)

    def _has_ended(self, visitor: _Visitor) -> bool:
        try:
            data = visitor.socket.recv(MOST_HEAD, _AT_ONCE)
        except BlockingIOError:
            return False
        if not data:
            return True
        visitor.came += data
        found = read(visitor.came)
        if isinstance(found, Probe):
            visitor.came = b""
            visitor.until = monotonic() + self._keep_alive
            said = answer(found, self._pulse)
            return visitor.socket.send(said, _AT_ONCE) < len(said) or not found.keep
        if found == "other":
            self._lead_in(visitor)
        return False

    def _watch(self, visitor: _Visitor) -> None:
        if visitor in self._visitors and not visitor.watched:
            self._selector.register(visitor.socket, selectors.EVENT_READ, visitor)
            visitor.watched = True

    def _forget(self, visitor: _Visitor) -> None:
        self._visitors.pop(visitor, None)
        if visitor.watched:
            self._selector.unregister(visitor.socket)
            visitor.watched = False

    def _leave(self, visitor: _Visitor) -> None:
        self._forget(visitor)
        visitor.socket.close()

    def _lead_in(self, visitor: _Visitor) -> None:
        self._forget(visitor)
        visitor.socket.setblocking(False)
        if len(self._waiting) >= self._most:
            with suppress(IndexError):  # the loop has taken it this moment
                self._waiting.popleft().socket.close()
        self._waiting.append(visitor)
        with suppress(RuntimeError):  # the loop has ended, and `stop` closes what waits
            self._loop.call_soon_threadsafe(self._take)

    def _tell(self, fault: Exception) -> None:
        now = monotonic()
        if now - self._told_at < _QUIET:
            return
        self._told_at = now
        context = {"message": "the ops listener's thread has met a fault", "exception": fault}
        with suppress(RuntimeError):  # there is no loop any more that could tell it
            self._loop.call_soon_threadsafe(self._loop.call_exception_handler, context)

    # --- on the loop ---

    def _take(self) -> None:
        try:
            visitor = self._waiting.popleft()
        except IndexError:
            return  # it made room for another
        if self._stopping.is_set():
            visitor.socket.close()
            return
        task = self._loop.create_task(self._enter(visitor))
        self._entering.add(task)
        task.add_done_callback(self._entering.discard)

    async def _enter(self, visitor: _Visitor) -> None:
        try:
            await self._loop.connect_accepted_socket(
                lambda: _Begun(self._factory, visitor.came), visitor.socket
            )
        except OSError:
            visitor.socket.close()  # it was reset meanwhile
        except BaseException:
            visitor.socket.close()
            raise
