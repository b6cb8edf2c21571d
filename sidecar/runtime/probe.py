"""One question to an upstream: how are you? Asked as a new caller would, and answered in one word.

Each probe has a connection of its own, which is closed after it: it finds what somebody new finds who connects now (the
name, the certificate, the backlog), takes no place in the pool that requests use, and leaves nothing behind. Everything,
from the name look-up to the end of the body, has to be over within `timeout`.

The status decides. The body has to come whole, or its first 64 KiB: what is longer is dropped. Redirects are not followed
(a 302 is what it is), no cookie is kept or sent, nothing is unpacked. TLS is the upstream's own, unix sockets too.

What comes is bounded in all that it has, not in time alone: at most `MAX_INTERIM` interim answers (RFC 9110 §15.2 sets no
limit) and `MAX_ANSWER` bytes from the first to the last, chunk sizes and trailers with them. Who sends more has answered
badly. It is read in small pieces, so that nobody can have much more read at a stretch than what is allowed.
"""

import asyncio
import errno
import ssl
from contextlib import suppress
from functools import partial
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from sidecar.config.model import UpstreamConfig
from sidecar.config.observing import HealthConfig
from sidecar.runtime.tls import client_context
from sidecar.version import VERSION

__all__ = ["MAX_ANSWER", "MAX_BODY", "MAX_INTERIM", "USER_AGENT", "Probe"]

MAX_BODY = 64 << 10
MAX_ANSWER = 128 << 10
MAX_INTERIM = 32
USER_AGENT = f"resilience-sidecar/{VERSION} health probe"

_PIECE = 4 << 10  # bytes that are read at once: some 200 interim answers, half a millisecond

_UNROUTABLE = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH})


class Probe:
    """Asks one upstream, each time that it is called."""

    __slots__ = ("_headers", "_path", "_server_name", "_settings", "_tls", "_url")

    def __init__(self, name: str, upstream: UpstreamConfig, settings: HealthConfig) -> None:
        """Make ready to ask the upstream called `name`. Nothing is opened.

        Raises:
            StartFailed: a TLS file does not hold what it should.

        """
        url = upstream.url
        base = "http://localhost" if url.path is not None else str(url)
        self._settings = settings
        self._path = url.path
        self._url = URL(base + settings.path, encoded=True)
        self._tls = client_context(upstream.tls, name) if url.scheme == "https" else None
        self._server_name = upstream.tls.server_name if upstream.tls is not None else None
        self._headers = {
            "Host": settings.host or base.partition("://")[2],
            "User-Agent": USER_AGENT,
            "Accept": "*/*",
        }

    async def __call__(self) -> str | None:
        """Ask once: None if all is well, else what is wrong. Words, never an address or a foreign text."""
        try:
            async with asyncio.timeout(self._settings.timeout):
                return await self._ask()
        except TimeoutError:
            return "timeout"
        except (aiohttp.ClientError, OSError) as error:
            return _word(error)

    async def _ask(self) -> str | None:
        settings = self._settings
        async with aiohttp.ClientSession(
            connector=self._connector(),
            timeout=aiohttp.ClientTimeout(total=None),  # the one around this bounds everything
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        ) as session:
            # Else it asks again by itself where a connection was closed without an answer: that is one probe, and bad.
            session._retry_connection = False
            async with session.request(
                settings.method,
                self._url,
                headers=self._headers,
                skip_auto_headers=("Accept-Encoding",),
                allow_redirects=False,
                server_hostname=self._server_name,
            ) as answer:
                if answer.status not in settings.expect:
                    return f"status {answer.status}"
                await _drop(answer)
                return None

    def _connector(self) -> aiohttp.BaseConnector:
        """Give what opens one connection, to one address after the other, and keeps nothing."""
        connector = self._any_connector()
        # aiohttp has no public way to say what reads an answer, and no bound on interim ones.
        reader: Any = partial(_Bounded, loop=asyncio.get_running_loop())
        connector._factory = reader
        return connector

    def _any_connector(self) -> aiohttp.BaseConnector:
        if self._path is not None:
            return aiohttp.UnixConnector(self._path, limit=1, force_close=True)
        return aiohttp.TCPConnector(
            limit=1,
            force_close=True,
            ssl=True if self._tls is None else self._tls,
            use_dns_cache=False,
            resolver=aiohttp.ThreadedResolver(),
            happy_eyeballs_delay=None,
        )


class _TooMuch(aiohttp.ClientPayloadError):
    """More came than a body of 64 KiB needs."""


class _Bounded(ResponseHandler):
    """Reads an answer, as long as it is within bounds."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._bytes = 0
        self._heads = 0
        self._over = False  # nothing is read any more

    def data_received(self, data: bytes) -> None:
        """Read it in pieces; what comes after the first 64 KiB of the body is not looked at."""
        if not data:  # aiohttp goes on with what it has
            super().data_received(data)
            return
        for at in range(0, len(data), _PIECE):
            if self._over or self.exception() is not None:
                return
            piece = data[at : at + _PIECE]
            self._bytes += len(piece)
            super().data_received(piece)
            self._look()

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Count the heads, of which each but one is interim."""
        self._heads += 1
        super().feed_data(data, size)

    def _look(self) -> None:
        body = self._payload
        if body is not None and body.total_bytes >= MAX_BODY:
            self._over = True
        elif self._heads > MAX_INTERIM + 1 or self._bytes > MAX_ANSWER:
            self._over = True
            self._buffer.clear()
            self.set_exception(HttpProcessingError(message="too much"))
            if body is not None:
                body.set_exception(_TooMuch())
        if self._over and self.transport is not None:
            with suppress(RuntimeError):  # uvloop's word for a connection that is being closed
                self.transport.pause_reading()


async def _drop(answer: aiohttp.ClientResponse) -> None:
    """Read the body to its end, or as much of it as is read at most."""
    left = MAX_BODY
    while left and (piece := await answer.content.read(left)):
        left -= len(piece)
    answer.close()


def _word(error: aiohttp.ClientError | OSError) -> str:
    """Name what happened, in RFC 9209's words where it has one (§2.3)."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError | ssl.SSLCertVerificationError):
        return "tls_certificate_error"
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return "tls_protocol_error"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "dns_error"
    if isinstance(error, aiohttp.ClientResponseError | _TooMuch):
        return "bad_response"
    if isinstance(error, aiohttp.ClientConnectorError):
        error = error.os_error
    if isinstance(error, ConnectionRefusedError | FileNotFoundError):
        return "connection_refused"
    if isinstance(error, OSError) and error.errno in _UNROUTABLE:
        return "destination_ip_unroutable"
    return "connection_terminated"
