"""What TLS files hold: a certificate and the key that fits it, authorities to trust. Asked of OpenSSL, told at the line.

A start would fail on the same files; here it is told with everything else, before anything is started, and in words
that name the file to blame. Files that cannot be read are left alone: that has been said.
"""

import ssl
from collections.abc import Iterator
from pathlib import Path

from sidecar.config.checks import Finding, each_of
from sidecar.config.kinds import File
from sidecar.config.tree import Node

__all__ = ["unfit_files"]

_NO_FIT = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH")
_AUTHORITIES = ("ca", "client_ca")


def unfit_files(root: Node, base: Path) -> Iterator[Finding]:
    """Find files that do not hold what they should. Relative names start at `base`."""
    listen = root.entries.get("listen")
    for settings in (*filter(None, [listen]), *each_of(root, "upstreams")):
        tls = settings.entries.get("tls")
        if tls is None:
            continue
        for key in _AUTHORITIES:
            if key in tls.entries:
                yield from _certificates(tls.entries[key], base)
        if "certificate" in tls.entries:
            found = list(_certificates(tls.entries["certificate"], base))
            yield from found
            if "key" in tls.entries and not found:
                yield from _key(tls.entries["key"], tls.entries["certificate"], base)


def _certificates(node: Node, base: Path) -> Iterator[Finding]:
    """Find a file without any certificate."""
    file = _file(node, base)
    if file is None:
        return
    try:
        _context().load_verify_locations(file)
    except (ssl.SSLError, OSError):
        yield Finding(node, "holds no certificate in PEM form")


def _key(node: Node, certificate: Node, base: Path) -> Iterator[Finding]:
    """Find a file without the private key of the certificate."""
    key, chain = _file(node, base), _file(certificate, base)
    if key is None or chain is None:
        return
    asked: list[bool] = []

    def password() -> bytes:
        asked.append(True)
        return b"-"

    try:
        _context().load_cert_chain(chain, key, password)
    except (ssl.SSLError, OSError) as error:
        if asked:
            yield Finding(node, "is encrypted, and nobody is there to give its passphrase")
        elif getattr(error, "reason", None) in _NO_FIT:
            line = certificate.origin.mark.line
            yield Finding(node, f"is not the key of `certificate` (line {line})")
        elif getattr(error, "reason", None) in {None, "PEM_LIB", "NO_START_LINE"} or "PEM" in str(error):
            yield Finding(node, "holds no private key in PEM form")
        else:
            yield Finding(certificate, f"cannot be used: {error}")


def _context() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


def _file(node: Node, base: Path) -> str | None:
    """Return the name of the file, None where it cannot be read."""
    if not isinstance(node.value, str) or not node.value:
        return None
    try:
        return File().parse(str(base / node.value))
    except ValueError:
        return None
