"""What answers say of the sidecar itself: the key `headers`, and the names under which breakers show their state.

`X-Request-ID` is on every answer in every mode, and so is `X-Fault-Injected` where a fault was injected: nobody may take
that for the service's own doing.

`minimal`, the default: what a caller can act on. `Retry-After`, `RateLimit…` and `X-RateLimit-…`, `Cache-Status`, `Age`,
`X-Upstream-Attempts`; `X-System-Degraded: true` and `X-Fallback-Source` on what stands in for a failure; `Proxy-Status`
there and on our own errors. That is what the other stages say anyhow, so there is no stage for it.

`seed`: besides, on every answer, be it the service's, a copy or our own:

| field | value |
|---|---|
| `X-System-Degraded` | `true` or `false`, see below |
| `X-Circuit-Breaker` | `NAME=CLOSED`, `OPEN` or `HALF_OPEN`, where the route has a breaker |
| the `header` of that breaker | the state alone |
| `X-Content-Type-Options` | `nosniff`, unless the answer has such a field already |
| `X-Frame-Options` | `DENY`, unless the answer has such a field already |

`off`: nothing that tells of the inside; of the above only `Retry-After` and `Age`, which callers and caches need. The
body of an error says what it is all the same: `errors.format` is about that.

A breaker's `header` was asked for by name, so it is there in `minimal` too, but not in `off`. The state is that of the
moment in which the head of the answer goes out. A breaker in shadow shows nothing: it changes no byte of an answer.

**Degraded** is an answer that stands in for a failure or is one, whether it is ours or the service's own 5xx,
and any other whose route's breaker is not CLOSED. What is wrong with the request itself, or with how often its caller
asks, is no failure of the system.

**Whose word it is.** Who reads one of these fields must be able to take it for ours. So what the service, or another
sidecar before it, has said in them is taken away: with `seed` and `off` under the names that only a sidecar uses
(`X-System-Degraded`, `X-Circuit-Breaker`, `X-Fallback-Source`, `X-Upstream-Attempts`), and in every mode under the name
that a breaker shows itself by; from the head, and from the trailers, which are read as one with it by some (RFC 9110
§6.5). `Cache-Status`, `Proxy-Status` and quotas of the service's own are its own, and pass.

Interim answers (1xx) are not touched, but for 101, which is the last of its kind that is HTTP.

The stage stands outside `record`: there every error is an answer already, and knows its fate. What has no route, since
no request could be read, has no stages either: `Answers` says there the part that is the same for all.
"""

import asyncio
from collections.abc import Callable

from sidecar.errors import ClientError, RateLimited
from sidecar.fate import Fate
from sidecar.message import NO_FIELDS, Body, Fields, Reply
from sidecar.pipeline.answers import DEGRADED, DENY, NOSNIFF, HeadersMode
from sidecar.pipeline.exchange import Exchange
from sidecar.pipeline.stage import Stage
from sidecar.policy.breaker import Breaker, State

__all__ = ["HideStage", "ShowStage", "headers_stages"]

_Pairs = tuple[tuple[bytes, bytes], ...]
_OnFault = Callable[[Exchange, Exception], None]

_OK = Fate.OK  # read for each request: a global is quicker than a member of an Enum
# Plain strings: hashing a member of an Enum calls Python code.
_GOOD = frozenset({"ok", "ok_after_retry", "cache_fresh", "cache_stale", "coalesced"})

_CIRCUIT = b"X-Circuit-Breaker"

# What only a sidecar says, and what we say besides in words that others have too.
_SIDECARS = (DEGRADED, _CIRCUIT, b"X-Fallback-Source", b"X-Upstream-Attempts")
_INSIDE = frozenset(
    {
        *_SIDECARS,
        b"Cache-Status",
        b"Proxy-Status",
        b"RateLimit",
        b"RateLimit-Policy",
        b"X-RateLimit-Limit",
        b"X-RateLimit-Remaining",
        b"X-RateLimit-Reset",
    }
)
_OTHERS = tuple([name.lower() for name in _SIDECARS])
_NOSNIFF, _DENY = NOSNIFF[0].lower(), DENY[0].lower()
_X = (b"X-", b"x-")


def headers_stages(
    mode: HeadersMode,
    loop: asyncio.AbstractEventLoop,
    on_fault: _OnFault,
    breaker: Breaker | None = None,
    named: str | None = None,
) -> list[Stage]:
    """Give the stages that `mode` asks for, none or one. `named` is the field that shows the state of `breaker`.

    A breaker that is off or in shadow is None here.
    """
    if mode == "off":
        return [HideStage()]
    if mode == "seed" or (breaker is not None and named is not None):
        return [ShowStage(loop, on_fault, breaker, named, everything=mode == "seed")]
    return []


class _Sieve(Stage):
    """Takes the fields called `ours` (lower case) from what the service says.

    The last section is remembered: they come again and again, and reading one takes longer than all else here.
    """

    __slots__ = ("_alike", "_clean", "_last", "_ours", "_theirs")

    def __init__(self, ours: tuple[bytes, ...]) -> None:
        self._ours = ours
        self._alike = all(name.startswith(b"x-") for name in ours)
        self._last = self._clean = NO_FIELDS
        self._theirs = 0

    def _read(self, fields: Fields) -> None:
        """Read a section: what is left of it, and which of the fields for browsers it has (1 and 2)."""
        self._last = self._clean = fields
        self._theirs = 0
        wire = fields.wire
        if self._alike and not (wire[:2] in _X or b"\nX-" in wire or b"\nx-" in wire):
            return
        names = {name.lower() for name, _ in fields.pairs}
        if not names.isdisjoint(self._ours):
            self._clean = fields.without(*self._ours)
        self._theirs = (_NOSNIFF in names) + 2 * (_DENY in names)

    def _trim(self, reply: Reply) -> None:
        """Take the fields from trailers too, which only an answer without a length can have."""
        body = reply.body
        if isinstance(body, Body):
            body.hidden = self._ours  # they come with its end
        elif reply.trailers:
            reply.trailers = [pair for pair in reply.trailers if pair[0].lower() not in self._ours]


class ShowStage(_Sieve):
    """Says how the system is. Without `everything` that is the state of `breaker` in the field `named`, and no more.

    All that it may ever say is rendered when it is made. A fault here costs an answer these fields, and is told to
    `on_fault`: outside `record` nobody would make an answer of it.
    """

    __slots__ = ("_breaker", "_everything", "_good", "_lines", "_loop", "_named", "_on_fault")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_fault: _OnFault,
        breaker: Breaker | None,
        named: str | None,
        *,
        everything: bool,
    ) -> None:
        self._loop = loop
        self._on_fault = on_fault
        self._breaker = breaker
        self._named = None if named is None or breaker is None else named.encode()
        self._everything = everything
        own = () if self._named is None else (self._named.lower(),)
        super().__init__((*_OTHERS, *own) if everything else own)
        self._lines = {
            (degraded, state.value): self._render(state, degraded=degraded)
            for state in State
            for degraded in (False, True)
        }
        self._good = self._lines[False, State.CLOSED.value]

    def _render(self, state: State, *, degraded: bool) -> tuple[_Pairs, ...]:
        """Give what to add in this state: to a section with neither of the two fields for browsers, one, or both."""
        said: _Pairs = ()
        if self._everything:
            said = ((DEGRADED, b"true" if degraded else b"false"),)
            if self._breaker is not None:
                said += ((_CIRCUIT, f"{self._breaker.name}={state}".encode()),)
        if self._named is not None:
            said += ((self._named, state.encode()),)
        if not self._everything:
            return (said,) * 4
        return ((*said, NOSNIFF, DENY), (*said, DENY), (*said, NOSNIFF), said)

    async def __call__(self, exchange: Exchange) -> Reply:
        """Give the reply, with what there is to say on it."""
        reply = await self.next(exchange)
        try:
            fields = reply.fields
            if fields is not self._last:
                self._read(fields)
            reply.fields = self._clean
            if reply.length is None:
                self._trim(reply)
            breaker, fate = self._breaker, exchange.fate
            if (breaker is None or breaker.passing) and (fate is _OK or _is_good(fate)):
                reply.extra += self._good[self._theirs]
            else:
                self._tell(exchange, reply, self._theirs)
        except Exception as fault:  # noqa: BLE001 -- isolation: there is an answer, and the client gets it
            self._on_fault(exchange, fault)
        return reply

    def _tell(self, exchange: Exchange, reply: Reply, theirs: int) -> None:
        """Say how it is where not all is well, once: the answer may say something of it already."""
        breaker, state = self._breaker, State.CLOSED
        if breaker is not None and not breaker.passing:
            breaker.refusal(self._loop.time())  # brings the time
            state = breaker.state
        degraded = state is not State.CLOSED or _failed(exchange)
        said = self._lines[degraded, state.value][theirs]
        names = {name for name, _ in said}
        reply.extra = (*[pair for pair in reply.extra if pair[0] not in names], *said)

    def describe(self) -> str:
        """Name the stage and what it shows."""
        name = "" if self._named is None else f" {self._named.decode()}"
        return f"headers{' seed' if self._everything else ''}{name}"


class HideStage(_Sieve):
    """Says nothing of the inside, and lets no other sidecar do so."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(_OTHERS)

    async def __call__(self, exchange: Exchange) -> Reply:
        """Give the reply, without what was said on it."""
        reply = await self.next(exchange)
        fields = reply.fields
        if fields is not self._last:
            self._read(fields)
        reply.fields = self._clean
        if reply.length is None:
            self._trim(reply)
        if len(reply.extra) > 1:  # X-Request-ID is always there
            reply.extra = tuple([pair for pair in reply.extra if pair[0] not in _INSIDE])
        return reply

    def describe(self) -> str:
        """Name the stage."""
        return "headers off"


def _is_good(fate: Fate | None) -> bool:
    return fate is not None and fate._value_ in _GOOD


def _failed(exchange: Exchange) -> bool:
    """Tell whether a request has ended in a failure of the system, whoever has answered it."""
    return not _is_good(exchange.fate) and not isinstance(exchange.error, ClientError | RateLimited)
