"""The cache: it answers from copies, waits for the answers of others, and asks for what it does not have.

    fresh copy ─────────────────────────────▶ the copy                                       hit
    stale, within stale-while-revalidate ───▶ the copy, and it is fetched again behind it    stale
    the same is being asked already ────────▶ wait for that answer                           coalesced
    stale, with a validator ──ask if it is still good──304─▶ the copy, renewed               revalidated
    else ───────────────────────────────────▶ ask, and keep the answer if it may be kept     miss
    asking fails, within stale-if-error ────▶ the copy                                       stale
    not for a cache (method, body, Range, credentials …) ──▶ pass                            bypass

What may be done is decided in `policy/cache.py`; what becomes of answers is in `keeping.py`. The words on the right are
those of `results`. Each request counts once, unless its client leaves before, and beside that as an `error` where the
cache itself failed: then it goes on as if there were none. Each answer says in `Cache-Status` (RFC 9211) what was done.

The stage is outside the total deadline, so that a hit costs no timer. Who waits here for another's answer has that
deadline all the same: he waits for half of it at most, and what is left is for asking on his own.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from sidecar.errors import NotCached, RequestError, TotalTimeout
from sidecar.fate import Fate
from sidecar.message import Reply
from sidecar.pipeline.exchange import Exchange
from sidecar.pipeline.stage import Stage
from sidecar.pipeline.stages.cached import answer_from, fresh_from, reply_from
from sidecar.pipeline.stages.keeping import Flight, Keeper
from sidecar.pipeline.stages.ladder import Failure
from sidecar.pipeline.stages.refetch import fetch_behind, request_behind
from sidecar.pipeline.stages.single_flight import ALONE, LEAD, Flights
from sidecar.policy.cache import (
    REQUEST,
    STALE,
    Asking,
    choose,
    is_validatable,
    may_stand_in,
    may_use_meanwhile,
    may_wait,
    why_not,
)
from sidecar.policy.cache_request import Asked, asked, selecting
from sidecar.policy.cache_settings import CacheSettings
from sidecar.policy.conditions import revalidating
from sidecar.policy.fallback import SERVER_ERROR, cause_of
from sidecar.policy.store import Entry, Store

__all__ = ["RESULTS", "CacheStage"]

RESULTS = ("hit", "stale", "revalidated", "coalesced", "miss", "bypass", "error")

_CACHE_FRESH = Fate.CACHE_FRESH  # read for each hit: a global is quicker than a member of an Enum
_CACHE_STALE = Fate.CACHE_STALE

# Why a request goes forward (RFC 9211 §2.2).
_METHOD = b"method"
_BYPASS = b"bypass"
_URI_MISS = b"uri-miss"
_VARY_MISS = b"vary-miss"

_FAILURES = frozenset({500, 502, 503, 504})  # RFC 5861 §4

# Seconds to wait for another's answer on a route without a total deadline (nginx's `proxy_cache_lock_timeout`), and
# between two attempts to fetch the same copy again behind answers.
_PATIENCE = 5.0
_AGAIN_SECONDS = 1.0

_Extra = tuple[tuple[bytes, bytes], ...]


def _say(text: bytes) -> _Extra:
    return ((b"Cache-Status", text),)


_WHYS = (_METHOD, _BYPASS, _URI_MISS, _VARY_MISS, STALE, REQUEST)
_FORWARDED = {why: _say(b"sidecar; fwd=" + why) for why in _WHYS}
_STORED = {why: _say(b"sidecar; fwd=%b; stored" % why) for why in _WHYS}


class CacheStage(Stage):
    """The cache of one route. `results` counts by what became of a request.

    `total` is the route's total deadline in seconds, `wall` gives the time of day, and `spawn` runs what goes on behind
    an answer (False: there is too much of that already).
    """

    __slots__ = (
        "_behind",
        "_coalesce",
        "_flights",
        "_keeper",
        "_prefix",
        "_route",
        "_spawn",
        "_store",
        "_time",
        "_total",
        "results",
        "settings",
    )

    counters = ("results",)

    def __init__(
        self,
        store: Store,
        settings: CacheSettings,
        route: str,
        loop: asyncio.AbstractEventLoop,
        *,
        spawn: Callable[[Coroutine[Any, Any, None]], bool],
        wall: Callable[[], float],
        total: float | None,
    ) -> None:
        self._store = store
        self.settings = settings
        self._route = route
        self._prefix = route.encode() + b" "
        self._time = loop.time
        self._spawn = spawn
        self._total = total
        self._coalesce = settings.coalesce
        self._flights = Flights(loop)
        self._behind: set[Entry] = set()  # copies that are being fetched again behind an answer
        self._keeper = Keeper(store, settings, self._flights, loop, wall=wall, on_fault=self._fault)
        self.results: dict[str, int] = dict.fromkeys(RESULTS, 0)

    def _fault(self) -> None:
        self.results["error"] += 1

    async def __call__(self, exchange: Exchange) -> Reply:
        """Answer from a copy, or ask.

        Raises:
            NotCached: the request is `only-if-cached`, and there is no copy for it.
            TotalTimeout: it waited for another's answer, and then for its own, until its deadline.
            RequestError: as the rest of the pipeline, where no copy stands in.

        """
        try:
            found: Reply | bytes | Asking | None = self._look_up(exchange)
        except Exception:  # noqa: BLE001 -- a fault of the cache must not be the request's
            self._fault()
            self.results["bypass"] += 1
            found = None
        if found is None:
            return await self.next(exchange)
        if isinstance(found, Reply):
            return found
        if isinstance(found, bytes):
            return await self._pass(exchange, found)
        read = found.read
        if not read.plain and read.cc.only_if_cached and self.settings.serve_fresh:
            self.results["miss"] += 1
            raise NotCached
        if self._coalesce and (read.plain or may_wait(read)):
            flight = b"%b %b %b" % (found.key, found.request.method, read.variant)
            if self._flights.is_alone(flight, found.asked_at):
                pass
            elif found.copy is None and read.conditional:  # its answer may be a 304, to its own client only
                if flight in self._flights:
                    return await self._follow(exchange, found, flight)
            elif self._flights.lead(flight):
                found.flight = flight
            else:
                return await self._follow(exchange, found, flight)
        copy = found.copy
        if copy is not None and is_validatable(copy):
            return await self._revalidate(exchange, found, copy)
        # As `_ask`, without its frame: this is the way of all that no copy answers.
        try:
            reply = await self.next(exchange)
        except BaseException as error:
            instead = self._failed(exchange, found, error)
            if instead is None:
                raise
            return instead
        return self._take(exchange, found, reply)

    # --- looking up ---

    def _look_up(self, exchange: Exchange) -> "Reply | bytes | Asking":
        """Give the answer, or what to ask, or why this is not for a cache."""
        request = exchange.request
        method = request.method
        if method not in (b"GET", b"HEAD"):
            return _METHOD
        if request.body is not None or request.upgrade is not None:
            return _BYPASS
        read = asked(request.fields)
        if not read.plain and (read.passed_on or read.cc.no_store):
            return _BYPASS
        now = self._time()
        key = self._prefix + request.host.lower() + b" " + request.target  # as `key_of`
        if not self.settings.serve_fresh:
            return Asking(request, key, read, _BYPASS, now)
        variants = self._store.variants(key)
        entry = choose(variants, request, read) if variants else None
        if entry is None or (read.personal and not entry.public):
            missed = _BYPASS if read.personal else _VARY_MISS if variants else _URI_MISS
            return Asking(request, key, read, missed, now)
        why = why_not(entry, read.cc, now)
        if why is None and entry.is_fresh(now):
            reply = fresh_from(entry, read, request, now)
            self._store.touch(entry)
            exchange.fate = _CACHE_FRESH
            self.results["hit"] += 1
            return reply
        if why is None:
            return self._stale(exchange, read, entry, now, b"max-stale")
        asking = Asking(request, key, read, why, now)
        asking.copy = entry
        if why is STALE and may_use_meanwhile(entry, read.cc, now):
            self._fetch_behind(exchange, asking)
            return self._stale(exchange, read, entry, now, b"stale-while-revalidate")
        return asking

    def _stale(self, exchange: Exchange, read: Asked, entry: Entry, now: float, why: bytes) -> Reply:
        ttl = _ttl(entry, now)
        extra = _say(b"sidecar; hit; ttl=%d; detail=%b" % (ttl, why))
        reply = answer_from(entry, read, exchange.request, now, extra)
        self._store.touch(entry)
        exchange.fate = _CACHE_STALE
        self.results["stale"] += 1
        return reply

    async def _pass(self, exchange: Exchange, why: bytes) -> Reply:
        self.results["bypass"] += 1
        reply = await self.next(exchange)
        if reply.tunnel is None:
            reply.extra += _FORWARDED[why]
        return reply

    # --- waiting for another's answer ---

    async def _follow(self, exchange: Exchange, asking: Asking, flight: Flight) -> Reply:
        """Wait for the answer that somebody asks for already, and ask only if that comes to nothing.

        The waiting takes at most half of the time that there is, so that the rest is enough to ask.
        """
        total = self._total
        began = asking.asked_at
        self._keeper.hurry(flight)
        landed = await self._flights.wait(flight, began + (_PATIENCE if total is None else total / 2))
        asking.asked_at = now = self._time()
        exchange.queued += now - began
        if landed is LEAD:
            asking.flight = flight
        elif landed is not ALONE:
            reply = self._shared(exchange, asking, landed)
            if reply is not None:
                return reply
        return await self._ask_until(exchange, asking, None if total is None else began + total)

    async def _ask_until(self, exchange: Exchange, asking: Asking, until: float | None) -> Reply:
        """Ask when some of the time is gone already: the deadline is that of before."""
        bound = asyncio.timeout_at(until)
        try:
            async with bound:
                return await self._ask(exchange, asking)
        except TimeoutError:
            if not bound.expired():
                raise
        late = TotalTimeout()
        instead = self._failed(exchange, asking, late)
        if instead is None:
            raise late
        return instead

    def _shared(self, exchange: Exchange, asking: Asking, entry: Entry) -> Reply | None:
        """Give the answer that another has brought, if it is for this request as well."""
        request = exchange.request
        try:
            if entry.vary and selecting(request, asking.read, entry.vary) != entry.values:
                return None
            extra = _say(b"sidecar; fwd=%b; collapsed" % asking.why)
            reply = answer_from(entry, asking.read, request, self._time(), extra)
        except Exception:  # noqa: BLE001 -- a fault of the cache must not be the request's
            self._fault()
            return None
        exchange.fate = Fate.COALESCED
        self.results["coalesced"] += 1
        return reply

    # --- asking ---

    async def _ask(self, exchange: Exchange, asking: Asking) -> Reply:
        copy = asking.copy
        if copy is not None and is_validatable(copy):
            return await self._revalidate(exchange, asking, copy)
        try:
            reply = await self.next(exchange)
        except BaseException as error:
            instead = self._failed(exchange, asking, error)
            if instead is None:
                raise
            return instead
        return self._take(exchange, asking, reply)

    async def _revalidate(self, exchange: Exchange, asking: Asking, copy: Entry) -> Reply:
        """Ask whether the copy is still good."""
        request = exchange.request
        own = request.fields
        request.fields = revalidating(own, copy.etag, copy.last_modified)
        try:
            reply = await self.next(exchange)
        except BaseException as error:
            instead = self._failed(exchange, asking, error)
            if instead is None:
                raise
            return instead
        finally:
            request.fields = own
        if reply.status != 304:
            return self._take(exchange, asking, reply)
        answer = self._renewed(exchange, asking, copy, reply)
        reply.close()
        if answer is not None:
            return answer
        # The 304 is about another copy than ours: there is nothing to serve, so ask for the whole.
        asking.copy = None
        return await self._ask_until(
            exchange, asking, None if self._total is None else asking.asked_at + self._total
        )

    def _renewed(self, exchange: Exchange, asking: Asking, copy: Entry, reply: Reply) -> Reply | None:
        """Give the copy as the 304 in `reply` has made it; None where that is not about it."""
        try:
            entry = self._keeper.renew(asking, copy, reply)
            if entry is None:
                return None
            extra = _say(b"sidecar; fwd=%b; fwd-status=304; stored" % asking.why)
            answer = answer_from(entry, asking.read, exchange.request, self._time(), extra)
        except Exception:  # noqa: BLE001 -- a fault of the cache must not be the request's
            self._fault()
            return None
        self.results["revalidated"] += 1
        return answer

    def _take(self, exchange: Exchange, asking: Asking, reply: Reply) -> Reply:
        """Give the answer to the client, and keep it if it may be kept; or the copy that is better than a failure."""
        if asking.copy is not None and reply.status in _FAILURES:
            instead = self._instead(exchange, asking, Failure(SERVER_ERROR, reply=reply))
            if instead is not None:
                self._keeper.land(asking, None)
                reply.close()
                return instead
        self._count_miss(asking)
        try:
            stored = self._keeper.keep(asking, reply)
        except Exception:  # noqa: BLE001 -- a fault of the cache must not be the request's
            self._fault()
            self._keeper.land(asking, None)
            return reply
        if self.settings.serve_fresh:
            reply.extra += (_STORED if stored else _FORWARDED)[asking.why]
        return reply

    def _count_miss(self, asking: Asking) -> None:
        self.results["bypass" if asking.why is _BYPASS else "miss"] += 1

    # --- where asking has failed ---

    def _failed(self, exchange: Exchange, asking: Asking, error: BaseException) -> Reply | None:
        """End the flight, and give the copy that stands in for `error`, if there is one."""
        if isinstance(error, Exception):
            self._keeper.land(asking, None)
        else:
            self._keeper.hand_over(asking)  # the client left; those who wait are still there
        if isinstance(error, RequestError) and asking.copy is not None:
            cause = cause_of(error)
            instead = None if cause is None else self._instead(exchange, asking, Failure(cause, error=error))
            if instead is not None:
                return instead
        if isinstance(error, Exception):
            self._count_miss(asking)
        return None

    def _instead(self, exchange: Exchange, asking: Asking, failure: Failure) -> Reply | None:
        """Give the copy that may be served in place of a failure (`stale-if-error`)."""
        copy, now = asking.copy, self._time()
        if copy is None or not may_stand_in(copy, now):
            return None
        status = b"" if failure.reply is None else b"; fwd-status=%d" % failure.reply.status
        said = b"sidecar; fwd=%b%b; ttl=%d; detail=stale-if-error" % (asking.why, status, _ttl(copy, now))
        extra = (
            (b"Cache-Status", said),
            (b"X-System-Degraded", b"true"),
            (b"X-Fallback-Source", b"stale"),
            (b"Proxy-Status", failure.proxy_status),
        )
        reply = reply_from(copy, exchange.request, now, extra)
        exchange.fate = Fate.FALLBACK_STALE
        exchange.error = failure.error
        self.results["stale"] += 1
        return reply

    # --- behind an answer ---

    def _fetch_behind(self, exchange: Exchange, asking: Asking) -> None:
        """Fetch a copy again for which nobody waits, unless somebody does so already, or has just tried."""
        copy, now = asking.copy, asking.asked_at
        flight = asking.key + b" GET " + asking.read.variant
        if copy is None or copy in self._behind or now < copy.behind_at + _AGAIN_SECONDS:
            return
        if self._flights.is_alone(flight, now) or not self._flights.lead(flight):
            return
        copy.behind_at = now
        behind = request_behind(exchange.request, copy)
        later = Asking(behind, asking.key, asking.read, STALE, now)
        later.copy = copy
        later.flight = flight
        unseen = Exchange(behind, self._route, exchange.clock, _nobody)
        unseen.behind = True
        self._behind.add(copy)
        if not self._spawn(self._fetch(unseen, later, copy)):
            self._behind.discard(copy)
            self._keeper.land(later, None)

    async def _fetch(self, exchange: Exchange, asking: Asking, copy: Entry) -> None:
        try:
            await fetch_behind(self.next, exchange, asking, self._keeper, self._total)
        finally:
            self._behind.discard(copy)

    def describe(self) -> str:
        """Name the stage and its settings."""
        settings = self.settings
        if not settings.serve_fresh:
            return f"cache copies for the fallback, {settings.keep_for:g}s"
        fresh = "as the origin says" if settings.fresh_for is None else f"fresh for {settings.fresh_for:g}s"
        return f"cache {fresh}{', single-flight' if settings.coalesce else ''}"


def _ttl(entry: Entry, now: float) -> int:
    return int(entry.lifetime) - int(entry.age(now))


def _nobody(_: Exchange) -> None:
    pass
