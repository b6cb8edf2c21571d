"""What a shared cache may keep, for how long, and to whom it may give it (RFC 9111, RFC 5861).

Never kept: answers that are `private` or `no-store`, set a cookie, vary by everything, are parts or have trailers; and
answers to a request that says whose it is (`Authorization`, `Cookie`, a key), unless they are explicitly `public`. That
is stricter than §3.5, which would also take `s-maxage` and `must-revalidate` for a permission.

Never served stale: what says `must-revalidate`, `proxy-revalidate`, `s-maxage` or `no-cache` (§4.2.4), unless the route
sets `override_origin`.

A client may ask for less than it could have (`no-cache`, `max-age`, `min-fresh`), and then anybody can make requests go
to the origin: HTTP has it so, and a client that could be ignored could not get round a wrong copy either.
"""

from collections.abc import Sequence
from urllib.parse import urljoin, urlsplit

from sidecar.message import NO_FIELDS, Fields, Request
from sidecar.policy.cache_control import NOTHING, Directives
from sidecar.policy.cache_request import Asked, asked, selecting
from sidecar.policy.cache_response import NOT_KEPT, Told
from sidecar.policy.cache_settings import CacheSettings
from sidecar.policy.freshness import EXPLICIT, GUESSED, age_on_arrival, fresh_seconds, said_seconds
from sidecar.policy.store import Entry, Key, Store, selecting_bytes

__all__ = [
    "REQUEST",
    "STALE",
    "Asking",
    "CacheSettings",
    "changed_keys",
    "choose",
    "find",
    "is_validatable",
    "is_worth_keeping",
    "judged",
    "kept_fields",
    "key_of",
    "may_keep",
    "may_share",
    "may_stand_in",
    "may_use_meanwhile",
    "may_wait",
    "prefix_of",
    "usable_copy",
    "why_not",
]

# Why a copy does not answer: the words of RFC 9211 §2.2.
STALE = b"stale"
REQUEST = b"request"

MAX_SELECTING = 2048  # bytes of values that choose a copy: honest ones are shorter


def key_of(route: str, request: Request) -> Key:
    """Give the key under which the answers to `request` are kept. Host names have no case."""
    return prefix_of(route) + request.host.lower() + b" " + request.target


def prefix_of(route: str) -> bytes:
    """Give that with which the keys of a route begin, and those of no other."""
    return route.encode() + b" "


def find(store: Store, key: Key, request: Request, read: Asked) -> Entry | None:
    """Give the newest copy that `Vary` lets stand for this request. `read` is what `asked` gave for it.

    Whether it may be given to this caller (`read.personal`, `Entry.public`) is not looked at.
    """
    return choose(store.variants(key), request, read)


def choose(variants: Sequence[Entry], request: Request, read: Asked) -> Entry | None:
    """Give the newest of the copies of a key that `Vary` lets stand for this request; see `find`."""
    for entry in reversed(variants):
        vary = entry.vary
        if entry.outside == read.outside and (not vary or selecting(request, read, vary) == entry.values):
            return entry
    return None


def why_not(entry: Entry, cc: Directives, now: float) -> bytes | None:
    """Tell why a copy does not answer a request that says `cc`: `STALE`, or `REQUEST`, which wants a newer one.

    None: it answers.
    A copy that answers may be stale where the request allows it (`max-stale`).
    """
    age = entry.age_at_store + now - entry.stored_at
    left = entry.lifetime - age
    if cc is NOTHING:
        return None if left > 0 else STALE
    too_old = cc.no_cache or (cc.max_age is not None and age > cc.max_age)
    if left > 0:
        return REQUEST if too_old or (cc.min_fresh is not None and left < cc.min_fresh) else None
    if too_old or cc.max_stale is None or entry.must_revalidate or -left > cc.max_stale:
        return STALE
    return None


def may_wait(read: Asked) -> bool:
    """Tell whether a request may get the answer to an identical one that is under way, or share its own.

    Not one that says how old or how fresh it wants its answer.
    """
    if read.plain:
        return True
    cc = read.cc
    if read.personal or read.passed_on or cc.no_cache or cc.no_store:
        return False
    return cc.max_age is None and cc.min_fresh is None


def may_keep(read: Asked, status: int, told: Told) -> bool:
    """Tell whether an answer may be given to anybody else at all."""
    return told.open and status in EXPLICIT and (told.cc.public or not read.personal)


class Asking:
    """One request on its way to the origin: what it asks for, why, and since when (the loop's time).

    `read` is what `asked` gave for it, `why` the word of RFC 9211 §2.2, `copy` what we have of it already. `flight` and
    `capture` are for whoever lets others share the answer and keeps its body.

    A plain class with defaults on it: what an asking does not have costs it nothing to set.
    """

    copy: Entry | None = None
    flight: bytes | None = None
    capture: object | None = None

    def __init__(self, request: Request, key: Key, read: Asked, why: bytes, asked_at: float) -> None:
        self.request = request
        self.key = key
        self.read = read
        self.why = why
        self.asked_at = asked_at


def judged(  # noqa: PLR0917 -- the answer, who asked, by which rules, and when: on the way of every miss
    asking: Asking, status: int, told: Told, settings: CacheSettings, wall: float, now: float
) -> Entry:
    """Make the copy of an answer, as yet without section and body: for how long it is good, and for whom.

    Its head came at `now` (the loop's time), when the time of day was `wall`. What the origin says of serving stale goes
    before what the route says, unless the route overrides it.
    """
    cc = told.cc
    entry = Entry(asking.key, status, NO_FIELDS, b"", now)
    entry.age_at_store = age = age_on_arrival(told, wall, now - asking.asked_at)
    entry.said = said = said_seconds(told, wall)
    entry.lifetime = fresh_seconds(told, status, said, age, settings)
    entry.etag = told.etag
    entry.last_modified = told.last_modified
    entry.date = told.date
    if told.vary:
        entry.vary = told.vary
        entry.values = selecting(asking.request, asking.read, told.vary)
    if asking.read.outside:
        entry.outside = asking.read.outside
    if cc.public:
        entry.public = True
    override = settings.override_origin
    if not override and (cc.no_cache or cc.must_revalidate or cc.proxy_revalidate or cc.s_maxage is not None):
        entry.must_revalidate = True
        return entry
    swr, sie = cc.stale_while_revalidate, cc.stale_if_error
    entry.swr = settings.stale_while_revalidate if swr is None or override else swr
    entry.sie = settings.stale_if_error if sie is None or override else sie
    return entry


def is_worth_keeping(entry: Entry, settings: CacheSettings) -> bool:
    """Tell whether a copy would ever be used: served, renewed with less than its whole body, or fallen back on."""
    if (entry.vary or entry.outside) and selecting_bytes(entry) > MAX_SELECTING:
        return False
    guessed = entry.status in GUESSED
    if settings.keep_for and guessed:
        return True
    if not settings.serve_fresh or (entry.said is None and not guessed):
        return False
    if entry.lifetime > entry.age_at_store:
        return True
    return is_validatable(entry) or entry.swr > 0 or entry.sie > 0


def may_share(entry: Entry, told: Told, settings: CacheSettings) -> bool:
    """Tell whether an answer that may be kept may go to those who asked the same meanwhile.

    Not one of which its origin says that it is stale already, and not an error, unless its origin says how long it holds.
    """
    if not settings.override_origin:
        stale = entry.said is not None and entry.lifetime <= entry.age_at_store
        if told.cc.no_cache or stale:
            return False
    return entry.status < 500 or entry.said is not None


def kept_fields(
    fields: Fields, extra: tuple[tuple[bytes, bytes], ...], told: Told, length: int | None
) -> Fields:
    """Give the section that a copy is kept with: dated, without what is not kept, and with the length of its body.

    `extra` is what was added to the section on its way. `length` is None where there is no body by definition.
    """
    if told.date is not None and not told.strip and (told.sized or length is None):
        return fields
    pairs = [pair for pair in fields.pairs if pair[0].lower() not in NOT_KEPT]
    if told.date is None:
        pairs += [pair for pair in extra if pair[0] == b"Date"]
    if length is not None and not told.sized:
        pairs.append((b"Content-Length", b"%d" % length))
    return Fields(pairs)


def is_validatable(entry: Entry) -> bool:
    """Tell whether the origin can be asked if a copy is still good."""
    return entry.etag is not None or entry.last_modified is not None


def may_use_meanwhile(entry: Entry, cc: Directives, now: float) -> bool:
    """Tell whether a stale copy may be served while it is fetched again (`stale-while-revalidate`, RFC 5861 §3).

    Not to a request that says how old or how fresh it wants its answer.
    """
    if entry.swr <= 0 or cc.no_cache or cc.max_age is not None or cc.min_fresh is not None:
        return False
    return entry.age(now) - entry.lifetime <= entry.swr


def may_stand_in(entry: Entry, now: float) -> bool:
    """Tell whether a copy may be served in place of an error (`stale-if-error`, RFC 5861 §4)."""
    return entry.sie > 0 and not entry.must_revalidate and entry.age(now) - entry.lifetime <= entry.sie


def usable_copy(  # noqa: PLR0917 -- the question has that many parts, and one caller
    store: Store, route: str, request: Request, now: float, max_age: float, override_origin: bool
) -> Entry | None:
    """Give the copy that a fallback may serve for `request`, fresh or stale, or None.

    It is at most `max_age` seconds since it was stored (or last found good). Only copies of successes and redirects stand
    in for a failure, and only for a GET or HEAD that they may be given to.
    """
    if request.method not in (b"GET", b"HEAD") or request.body is not None:
        return None
    read = asked(request.fields)
    if read.passed_on:
        return None
    entry = find(store, key_of(route, request), request, read)
    if entry is None or entry.status >= 400 or (read.personal and not entry.public):
        return None
    if now - entry.stored_at > max_age:
        return None
    if entry.must_revalidate and not override_origin and not entry.is_fresh(now):
        return None
    return entry


def changed_keys(request: Request, fields: Fields, routes: tuple[str, ...]) -> list[Key]:
    """Give the keys whose copies a successful change by `request` makes worthless (§4.4).

    Those are its own target, and what its answer names in `Location` and `Content-Location`, on the same host only: else
    any host could empty the cache of any other.
    """
    host = request.host.lower()
    targets = {request.target}
    for name in (b"location", b"content-location"):
        value = fields.first(name)
        if value is not None and (target := _same_host(request, host, value)) is not None:
            targets.add(target)
    return [b"%b %b %b" % (route.encode(), host, target) for route in routes for target in sorted(targets)]


def _same_host(request: Request, host: bytes, reference: bytes) -> bytes | None:
    """Resolve `reference` against the request's own URL; None: it is elsewhere, or no reference."""
    base = f"http://{host.decode('latin-1')}{request.target.decode('latin-1')}"
    try:
        found = urlsplit(urljoin(base, reference.decode("latin-1")))
    except ValueError:
        return None
    if found.scheme not in ("http", "https") or found.netloc.lower().encode("latin-1") != host:
        return None
    query = f"?{found.query}" if found.query else ""
    return f"{found.path or '/'}{query}".encode("latin-1")
