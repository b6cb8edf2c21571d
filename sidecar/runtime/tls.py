"""TLS contexts from configuration, for both sides. HTTP/1.1 is the only protocol offered."""

import ssl
from typing import Any
from weakref import WeakSet

from sidecar.config.model import ListenTls, UpstreamTls
from sidecar.errors import StartFailed

__all__ = ["client_context", "server_context"]


class _Bounded(ssl.SSLContext):
    """Begins no handshake while `most` connections are there.

    A protocol is told of a connection only when its handshake is over; until then nobody else counts it, and idle ones
    could use up every file.
    """

    most: int
    live: "WeakSet[ssl.SSLObject]"

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """Begin a handshake.

        Raises:
            ssl.SSLError: there are too many connections.

        """
        if len(self.live) >= self.most:
            raise ssl.SSLError("limits.connections is reached")
        wrapped = super().wrap_bio(*args, **kwargs)
        self.live.add(wrapped)
        return wrapped


def server_context(settings: ListenTls, most: int, before: ssl.SSLContext | None = None) -> ssl.SSLContext:
    """Make the context of the traffic listener; with `client_ca` a client must show a certificate.

    It serves at most `most` connections at once, those in their handshake and those of the context `before` included.

    Raises:
        StartFailed: a file does not hold what it should.

    """
    context = _Bounded(
        ssl.PROTOCOL_TLS_SERVER
    )  # TLS 1.2 or later, no compression: the defaults since Python 3.10
    context.most = most
    context.live = before.live if isinstance(before, _Bounded) else WeakSet()
    try:
        context.load_cert_chain(settings.certificate, settings.key)
        if settings.client_ca is not None:
            context.load_verify_locations(settings.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (ssl.SSLError, OSError) as error:
        raise StartFailed(f"listen.tls cannot be used: {error}") from error
    context.set_alpn_protocols(["http/1.1"])
    return context


def client_context(settings: UpstreamTls | None, upstream: str) -> ssl.SSLContext:
    """Make the context for an https upstream; without settings it verifies against the system's authorities.

    Raises:
        StartFailed: a file does not hold what it should.

    """
    context = ssl.create_default_context()
    if settings is not None:
        try:
            if settings.ca is not None:
                context = ssl.create_default_context(cafile=settings.ca)
            if settings.certificate is not None:
                context.load_cert_chain(settings.certificate, settings.key)
        except (ssl.SSLError, OSError) as error:
            raise StartFailed(f"upstreams.{upstream}.tls cannot be used: {error}") from error
        if not settings.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context
