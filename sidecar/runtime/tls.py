"""TLS contexts from configuration, for both sides. HTTP/1.1 is the only protocol offered."""

import ssl

from sidecar.config.model import ListenTls, UpstreamTls
from sidecar.errors import StartFailed

__all__ = ["client_context", "server_context"]


def server_context(settings: ListenTls) -> ssl.SSLContext:
    """Make the context of the traffic listener; with `client_ca` a client must show a certificate.

    Raises:
        StartFailed: a file does not hold what it should.

    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
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
