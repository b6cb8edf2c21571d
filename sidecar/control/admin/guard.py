"""Who is let in, and that every answer says what a browser must not do with it.

The admin interface changes things, and a browser on the same machine reaches it for any page that it shows. So, in this
order, before anything of a request is read:

* `Host` must be a name of this listener: else a page whose own name was made to point here (DNS rebinding) would be of
  the same origin as the live page. A name of this machine, the address that the client has connected to, the configured
  one, or one of `admin.hosts`; else 421 (RFC 9110 §15.5.20).
* With `admin.token`: `Authorization: Bearer …`, compared in constant time; else 401 (RFC 6750 §3).
* Without: nothing that a page of another site could send (cross-site request forgery). A change needs
  `Content-Type: application/json`, with or without a body, which no form has and no script may send across sites without
  being asked for a permission that nobody gives; and no `Origin` or `Sec-Fetch-Site` of another site. A page of another
  site may lead here, but not fetch.

A reload may bring another token or other names: what is in force at the time of a request counts.
"""

from collections.abc import Callable, Mapping
from hashlib import sha256
from hmac import compare_digest
from ipaddress import ip_address
from typing import Final

from aiohttp import web

from sidecar.config.observing import AdminConfig
from sidecar.control.admin.audit import Who
from sidecar.control.admin.endpoint import Endpoint
from sidecar.control.admin.problem import Problem
from sidecar.telemetry.live import Live

__all__ = ["CSP", "SECURITY", "Guard", "client_of"]

CSP: Final = "default-src 'none'; frame-ancestors 'none'"
"""The Content-Security-Policy of everything but the live page, which brings its own."""

SECURITY: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": CSP,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_READS = frozenset({"GET", "HEAD"})


class Guard:
    """Lets requests in. `settings` gives what is in force."""

    def __init__(self, live: Live, settings: Callable[[], AdminConfig]) -> None:
        self._live = live
        self._settings = settings

    def admit(self, request: web.Request, endpoint: Endpoint | None) -> Who:
        """Tell who asks. `endpoint` is None where there is none at this path and method.

        Raises:
            Problem: he may not.

        """
        settings = self._settings()
        client = client_of(request)
        host = self._host(request, settings)
        if settings.token is None:
            _refuse_other_sites(request, host)
            return Who(client, "loopback")
        if endpoint is not None and endpoint.is_open:
            return Who(client, "stranger")
        _check_token(request, settings.token)
        return Who(client, "token")

    def _host(self, request: web.Request, settings: AdminConfig) -> str:
        """Give `Host`, in lower case."""
        said = request.headers.getall("Host", [])
        if len(said) == 1:
            host = said[0].lower()
            if self._is_ours(host, request, settings):
                return host
        detail = "This listener does not go by that name. Names besides its address stand in `admin.hosts`."
        raise Problem(421, "wrong_host", detail)

    def _is_ours(self, host: str, request: web.Request, settings: AdminConfig) -> bool:
        name = _without_port(host)
        if name is None:
            return False
        if name == "localhost" or name.endswith(".localhost") or _is_loopback(name):
            return True
        bound = self._live.loaded.config.listen.admin
        if bound is not None and bound.host and name == bound.host.lower():
            return True
        if name == _reached(request):
            return True
        return any(each.lower() in {name, _bracketed(name), host} for each in settings.hosts)


def client_of(request: web.Request) -> str:
    """Give the client's address; `unix` for one that came by a unix socket."""
    return request.remote or "unix"


def _check_token(request: web.Request, token: str) -> None:
    scheme, _, said = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and compare_digest(_digest(said.strip()), _digest(token)):
        return
    if not scheme:
        challenge, code = 'Bearer realm="sidecar"', "token_missing"
        detail = "This needs `Authorization: Bearer` with the token of the configuration (`admin.token`)."
    else:
        challenge, code = 'Bearer realm="sidecar", error="invalid_token"', "token_wrong"
        detail = "The token is not that of the configuration (`admin.token`)."
    raise Problem(401, code, detail, headers={"WWW-Authenticate": challenge})


def _digest(text: str) -> bytes:
    """Make texts of equal length, so that not even the length of the token shows."""
    return sha256(text.encode("utf-8", "surrogateescape")).digest()


def _refuse_other_sites(request: web.Request, host: str) -> None:
    """Refuse what a page of another site made the browser send."""
    origin = request.headers.get("Origin")
    site = request.headers.get("Sec-Fetch-Site", "none").lower()
    if request.method in _READS:
        leads_here = request.headers.get("Sec-Fetch-Mode", "").lower() == "navigate"
        foreign = site == "cross-site" and not leads_here
    else:
        foreign = site not in {"same-origin", "none"}
    if foreign or (origin is not None and origin.lower().partition("://")[2] != host):
        raise Problem(403, "cross_site", "This was sent by a page of another site, which may not.")
    if request.method not in _READS and not _is_json(request):
        detail = (
            "A change needs `Content-Type: application/json`, also without a body; "
            "with curl: `-H 'Content-Type: application/json'`."
        )
        raise Problem(415, "not_json", detail, headers={"Accept": "application/json"})


def _is_json(request: web.Request) -> bool:
    return request.headers.get("Content-Type", "").partition(";")[0].strip().lower() == "application/json"


def _without_port(host: str) -> str | None:
    """Give the name or address alone, without brackets; None: it is no `Host`."""
    if host.startswith("["):
        name, bracket, rest = host[1:].partition("]")
        return name if bracket and (not rest or _is_port(rest)) else None
    name, colon, port = host.partition(":")
    return name.removesuffix(".") if name and (not colon or _is_port(f":{port}")) else None


def _is_port(text: str) -> bool:
    return text[:1] == ":" and text[1:].isascii() and text[1:].isdigit()


def _is_loopback(name: str) -> bool:
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _reached(request: web.Request) -> str | None:
    """Give the address of ours that the client has connected to."""
    name = request.transport.get_extra_info("sockname") if request.transport is not None else None
    return str(name[0]).partition("%")[0].lower() if isinstance(name, tuple) else None


def _bracketed(name: str) -> str:
    return f"[{name}]" if ":" in name else name
