"""The vocabulary of the policies: what a route may say of retries, breakers, bulkheads, limits, copies and fallbacks.

As in `model`, durations are seconds, sizes bytes and percentages numbers from 0 to 1, and None is what is off or
left out. A `preset` never has a value here: its numbers are in force instead (`presets`).
"""

from collections.abc import Mapping
from typing import Annotated, Literal, get_args

from pydantic import Field

from sidecar.config.alternatives import Off, Short, WordOr
from sidecar.config.http_kinds import (
    CONDITIONS,
    AnyText,
    ContentType,
    FieldName,
    FieldValue,
    LimitKey,
    Location,
    RetryOn,
    Status,
    statuses,
)
from sidecar.config.kinds import (
    Choice,
    Count,
    Duration,
    File,
    Name,
    Number,
    Percent,
    RateOf,
    Size,
    Switch,
    Text,
)
from sidecar.config.pattern import parse_method
from sidecar.config.presets import PRESETS
from sidecar.config.shape import Model
from sidecar.config.state_field import StateField
from sidecar.config.units import Rate

__all__ = [
    "IDEMPOTENT",
    "READS",
    "STALE",
    "STEPS",
    "TRIGGERS",
    "AdaptiveConfig",
    "BreakerConfig",
    "BulkheadConfig",
    "CacheConfig",
    "Cause",
    "FallbackStep",
    "FaultConfig",
    "HalfOpen",
    "MockStep",
    "Mode",
    "RateLimitConfig",
    "RedirectStep",
    "RetryAfterConfig",
    "RetryBudgetConfig",
    "RetryConfig",
    "SlowCall",
    "StaleStep",
    "StaticStep",
    "StoreConfig",
    "UpstreamStep",
]

STALE = "stale"
"""The step of a fallback that needs no settings."""

STEPS = (STALE, "static", "mock", "upstream", "redirect")
"""The keys of a fallback's steps, of which each has one."""

READS = ("GET", "HEAD")
"""The methods that steps are for where they do not say otherwise: a failed POST must not look done."""

IDEMPOTENT = ("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE")
"""The methods that another upstream is asked with (RFC 9110 §9.2.2)."""

TRIGGERS = ("consecutive_failures", "failures_in_window", "failure_rate", "slow_call")
"""The keys of a breaker that can open it; the first one is there where no other is named."""

Mode = Literal["enforce", "shadow", "off"]
Strategy = Literal["exponential", "linear", "fixed", "decorrelated"]
Jitter = Literal["full", "equal", "none"]
Order = Literal["fifo", "lifo", "adaptive"]
Algorithm = Literal["token_bucket", "sliding_window"]
LimitFields = Literal["both", "standard", "legacy", "off"]
Cause = Literal[
    "breaker_open", "timeout", "connect_error", "disconnected", "5xx", "bulkhead_full", "overload"
]
Methods = Annotated[tuple[Annotated[str, Text(parse_method)], ...], Field(min_length=1)]

_MODE = Choice(*get_args(Mode))
_MODE_MEANS = "`shadow` decides and counts what it would have refused, and refuses nothing."
_FAILURES = Status(range(400, 600), "a status from 400 to 599 or `5xx`", classes=True)
_ANSWERS = Status(
    frozenset(range(200, 600)) - {206, 304}, "a status from 200 to 599, but 206 and 304, which need a copy"
)
_ABORTS = Status(range(400, 600), "a status from 400 to 599")
_REDIRECTS = Status((302, 303, 307), "302, 303 or 307, which browsers forget again")


class RetryAfterConfig(Model):
    """What a `Retry-After` of the upstream may ask for."""

    max: Annotated[float, Duration("0s", "1h")] = Field(
        30.0,
        description="The longest that is waited, within `total`; what asks for more is passed on at once.",
    )


class RetryBudgetConfig(Model):
    """What all retries to one upstream may add to its load. Its routes share it, so they must agree on it."""

    ratio: Annotated[float, Percent()] = Field(0.2, description="Retries per first attempt.")
    min_per_second: Annotated[float, Number(0, 10_000)] = Field(
        1.0, description="Retries per second that are there without any traffic."
    )
    window: Annotated[float, Duration("1s", "10m")] = Field(
        10.0, description="How long a first attempt counts."
    )


class RetryConfig(Model):
    """Failed attempts are repeated, where that can do no harm."""

    retries: Annotated[int, Count(0, 10)] = Field(
        2, description="Attempts after the first one; `0`: none, but for what costs nothing."
    )
    strategy: Annotated[Strategy, Choice(*get_args(Strategy))] = Field(
        "exponential", description="How the waiting grows from one retry to the next."
    )
    base: Annotated[float, Duration("1ms", "1h")] = Field(0.1, description="The first waiting.")
    multiplier: Annotated[float, Number(1, 10)] = Field(
        2.0, description="What an exponential waiting is multiplied with."
    )
    max: Annotated[float, Duration("1ms", "1h")] = Field(2.0, description="The longest waiting.")
    jitter: Annotated[Jitter, Choice(*get_args(Jitter))] = Field(
        "full",
        description="`full`: anything up to the waiting; `equal`: from half of it; `none`: all of it.",
    )
    retry_on: tuple[Annotated[str | int, RetryOn()], ...] = Field(
        ("connect_error", "reset", "attempt_timeout", 502, 503, 504),
        min_length=1,
        description=f"What is repeated: {', '.join(f'`{word}`' for word in CONDITIONS)}, statuses, `5xx`.",
    )
    methods: Annotated[Literal["idempotent", "all"] | Methods, WordOr(Methods, "idempotent", "all")] = Field(
        "idempotent",
        description="What may be sent twice; what never left the sidecar is repeated whatever its method.",
    )
    require: Annotated[str | None, FieldName()] = Field(
        None,
        description="A field that a request needs for another attempt if its method is not idempotent.",
    )
    body_buffer: Annotated[int, Size("0B", "64MiB")] = Field(
        1 << 20, description="The largest request body that is kept for another attempt."
    )
    retry_after: RetryAfterConfig = Field(
        RetryAfterConfig(), description="What a `Retry-After` of the upstream may ask for."
    )
    budget: Annotated[RetryBudgetConfig | None, Off()] = Field(
        RetryBudgetConfig(), description="What all retries to the upstream may add to its load."
    )
    preset: Annotated[str | None, Choice(*PRESETS["retry"])] = Field(
        None, description="Numbers to start from; keys beside it go first."
    )

    @property
    def conditions(self) -> frozenset[str]:
        """The words of `retry_on` for having no answer."""
        return frozenset(CONDITIONS) & frozenset(each for each in self.retry_on if isinstance(each, str))

    @property
    def statuses(self) -> frozenset[int]:
        """The statuses of `retry_on`."""
        return statuses(self.retry_on)


class SlowCall(Model):
    """Slow answers count as well: too many of them open the breaker."""

    duration: Annotated[float, Duration("1ms", "1h")] = Field(
        description="An attempt that takes longer is slow."
    )
    rate: Annotated[float, Percent("0.1%")] = Field(
        0.5, description="The part of the attempts within the window that opens the breaker."
    )


class HalfOpen(Model):
    """How an open breaker finds out if the upstream is well again."""

    max_concurrent: Annotated[int, Count(1, 1000)] = Field(1, description="Trial requests at once.")
    successes: Annotated[int, Count(1, 1000)] = Field(
        2, description="Successful ones that close it; one failure opens it again."
    )
    max_wait: Annotated[float, Duration("10ms", "1h")] = Field(
        30.0, description="How long a trial may take; then its place is given to another one."
    )


class BreakerConfig(Model):
    """A circuit breaker: an upstream that keeps failing is left alone. Any of its triggers opens it.

    Naming a trigger turns the default one off, so `{}` alone means `consecutive_failures: 5`.
    """

    consecutive_failures: Annotated[int | None, Count(1, 10_000, off=True)] = Field(
        5, description="A trigger: so many failures without a success. `off` where another one is named."
    )
    failures_in_window: Annotated[int | None, Count(1, 10_000, off=True)] = Field(
        None, description="A trigger: so many failures within `window`."
    )
    failure_rate: Annotated[float | None, Percent("0.1%", off=True)] = Field(
        None, description="A trigger: this part of the attempts within `window`."
    )
    slow_call: Annotated[SlowCall | None, Off()] = Field(None, description="A trigger: slow answers.")
    window: Annotated[float, Duration("1s", "1h")] = Field(
        30.0, description="What the triggers but the first look back on."
    )
    min_requests: Annotated[int, Count(1, 1_000_000)] = Field(
        10, description="Attempts within `window` below which those triggers say nothing."
    )
    open_for: Annotated[float, Duration("10ms", "24h")] = Field(
        30.0, description="How long it stays open before trials begin."
    )
    open_multiplier: Annotated[float, Number(1, 10)] = Field(
        1.5, description="What `open_for` is multiplied with each time that trials fail."
    )
    open_jitter: Annotated[float, Percent("0%", "50%")] = Field(
        0.1, description="How far the time may be from that, so that not all sidecars try at once."
    )
    open_max: Annotated[float, Duration("10ms", "24h")] = Field(300.0, description="The longest time open.")
    count: tuple[Annotated[str | int, _FAILURES], ...] = Field(
        (500, 502, 503, 504),
        min_length=1,
        description="Statuses that are failures. Having no answer always is one.",
    )
    half_open: HalfOpen = Field(HalfOpen(), description="How it finds out if the upstream is well again.")
    header: Annotated[str | None, StateField()] = Field(
        None, description="A field of the answers that tells its state, such as `X-Database-Status`."
    )
    mode: Annotated[Mode, _MODE] = Field("enforce", description=_MODE_MEANS)
    preset: Annotated[str | None, Choice(*PRESETS["breaker"])] = Field(
        None, description="Numbers to start from; keys beside it go first."
    )

    @property
    def failures(self) -> frozenset[int]:
        """The statuses of `count`."""
        return statuses(self.count)


class AdaptiveConfig(Model):
    """The number of slots follows the upstream's latency."""

    min: Annotated[int, Count(1, 100_000)] = Field(description="Never fewer.")
    max: Annotated[int, Count(1, 100_000)] = Field(description="Never more.")


class BulkheadConfig(Model):
    """So many requests at once, so many waiting, and no more: a slow upstream cannot take everything."""

    max_concurrent: Annotated[int, Count(1, 100_000)] = Field(
        100, description="Requests at once; each has its slot until its response body has ended."
    )
    max_queue: Annotated[int, Count(0, 100_000)] = Field(
        100, description="Requests that wait for a slot; more are answered with 503 at once."
    )
    queue_timeout: Annotated[float, Duration("1ms", "1h")] = Field(
        1.0, description="The longest waiting; then the answer is 503."
    )
    order: Annotated[Order, Choice(*get_args(Order))] = Field(
        "fifo",
        description="Who is next; `adaptive`: the newest once the oldest has waited for longer than `target`.",
    )
    target: Annotated[float | None, Duration("1ms", "1h")] = Field(
        None,
        description="For `order: adaptive`: the waiting that is still calm. Without: a quarter of `queue_timeout`.",
    )
    adaptive: Annotated[AdaptiveConfig | None, Off()] = Field(
        None, description="Instead of a fixed number of slots, one that follows the upstream's latency."
    )
    mode: Annotated[Mode, _MODE] = Field("enforce", description=_MODE_MEANS)
    preset: Annotated[str | None, Choice(*PRESETS["bulkhead"])] = Field(
        None, description="Numbers to start from; keys beside it go first."
    )


class RateLimitConfig(Model):
    """So many requests in so long from whoever is told apart; more are answered with 429."""

    limit: Annotated[Rate, RateOf(1_000_000, "10ms", "24h")] = Field(
        description="Requests per time, such as `100/1m` or `10/s`."
    )
    algorithm: Annotated[Algorithm, Choice(*get_args(Algorithm))] = Field(
        "token_bucket",
        description="`sliding_window`: never more in any such time; `token_bucket`: refills steadily.",
    )
    key: Annotated[str, LimitKey()] = Field(
        "client_ip",
        description="Who is told apart: `client_ip`, `header:NAME`; nobody: `route`, or `global` over all routes.",
    )
    burst: Annotated[int | None, Count(1, 1_000_000)] = Field(
        None, description="What a full bucket holds. Without: as many as the limit says."
    )
    max_keys: Annotated[int, Count(1, 1_000_000)] = Field(
        10_000, description="Callers remembered; beyond, who has been away for longest is forgotten."
    )
    fields: Annotated[LimitFields, Choice(*get_args(LimitFields))] = Field(
        "both", description="Header fields on answers. `standard`: `RateLimit`; `legacy`: `X-RateLimit-…`."
    )
    mode: Annotated[Mode, _MODE] = Field("enforce", description=_MODE_MEANS)
    preset: Annotated[str | None, Choice(*PRESETS["rate_limit"])] = Field(
        None, description="Numbers to start from; keys beside it go first."
    )


class CacheConfig(Model):
    """Answers to GET are kept, and shared among GET and HEAD, where HTTP says that they may be (RFC 9111)."""

    fresh_for: Annotated[float | None, Duration("1ms", "8760h", off=True)] = Field(
        None, description="How long an answer that does not say so itself is fresh. `off`: not at all."
    )
    stale_while_revalidate: Annotated[float, Duration("0s", "8760h")] = Field(
        0.0, description="How long after that a copy is still served while a new one is fetched."
    )
    stale_if_error: Annotated[float, Duration("0s", "8760h")] = Field(
        0.0, description="How long after that a copy is served instead of an error."
    )
    coalesce: Annotated[bool, Switch()] = Field(
        True, description="Identical requests at the same time become one."
    )
    override_origin: Annotated[bool, Switch()] = Field(
        False,
        description="`fresh_for` goes before what the answer says, and `must-revalidate` does not count.",
    )
    preset: Annotated[str | None, Choice(*PRESETS["cache"])] = Field(
        None, description="Numbers to start from; keys beside it go first."
    )


class StoreConfig(Model):
    """Where copies are kept, those of `cache` and those of `fallback`: in memory, the oldest goes first."""

    max_bytes: Annotated[int, Size("64KiB", "1024GiB")] = Field(
        64 << 20, description="All copies together, with their header fields."
    )
    max_entries: Annotated[int, Count(1, 10_000_000)] = Field(10_000, description="How many copies.")
    max_body: Annotated[int, Size("1B", "1GiB")] = Field(
        1 << 20, description="The largest body that is kept; a larger one passes through."
    )


class StaleStep(Model):
    """The last good answer to the same request, kept for this."""

    max_age: Annotated[float, Duration("1s", "8760h")] = Field(
        300.0, description="How long after it was stored."
    )
    override_origin: Annotated[bool, Switch()] = Field(
        False, description="Also where the answer says `must-revalidate` or `no-cache`."
    )


class StaticStep(Model):
    """A fixed answer."""

    status: Annotated[int, _ANSWERS] = Field(200, description="Its status.")
    content_type: Annotated[str, ContentType()] = Field(
        "text/plain; charset=utf-8", description="Its media type."
    )
    body: Annotated[str | None, AnyText()] = Field(
        None, description="Its body. Without, and without `file`: empty."
    )
    file: Annotated[str | None, File()] = Field(None, description="A file with its body; instead of `body`.")
    headers: Mapping[Annotated[str, FieldName(own=False)], Annotated[str, FieldValue()]] = Field(
        {}, min_length=1, description="More header fields."
    )


class MockStep(StaticStep):
    """An answer that is made up: `{method}`, `{path}`, `{query}` and `{request_id}` in its body are the request's.

    Refused in `profile: production`.
    """

    content_type: Annotated[str, ContentType()] = Field("application/json", description="Its media type.")


class UpstreamStep(Model):
    """Another upstream is asked."""

    name: Annotated[str, Name()] = Field(description="The name of that upstream.")
    timeout: Annotated[float, Duration("1ms", "24h")] = Field(5.0, description="How long its head may take.")
    max_concurrent: Annotated[int, Count(1, 100_000)] = Field(
        10, description="Requests of this route to it at once."
    )


class RedirectStep(Model):
    """The client is sent elsewhere."""

    location: Annotated[str, Location()] = Field(
        description="A URL or a path; `{path}` and `{query}` in it are those of the request."
    )
    status: Annotated[int, _REDIRECTS] = Field(302, description="302, 303 or 307.")


class FallbackStep(Model):
    """What is answered instead of a failure. The first step that can is taken. One of the first five keys."""

    stale: StaleStep | None = Field(None, description="The last good answer; `- stale` alone does as well.")
    static: StaticStep | None = Field(None, description="A fixed answer.")
    mock: MockStep | None = Field(None, description="A made-up answer, for development.")
    upstream: Annotated[UpstreamStep | None, Short("name", Name())] = Field(
        None, description="Another upstream; its name alone does as well."
    )
    redirect: Annotated[RedirectStep | None, Short("location", Location())] = Field(
        None, description="Another place; its URL alone does as well."
    )
    when: tuple[Annotated[Cause, Choice(*get_args(Cause))], ...] = Field(
        get_args(Cause), min_length=1, description="The failures that it is for."
    )
    methods: tuple[Annotated[str, Text(parse_method)], ...] = Field(
        READS,
        min_length=1,
        description="The methods that it is for; those of `upstream` are, unless it says so, the idempotent ones.",
    )


class FaultConfig(Model):
    """Faults on purpose, to see what becomes of them. Every answer that had one says so."""

    delay: Annotated[float | None, Duration("1ms", "1h")] = Field(
        None, description="How long attempts are held up."
    )
    abort: Annotated[int | None, _ABORTS] = Field(
        None, description="A status that is the answer, without asking the upstream."
    )
    reset: Annotated[bool, Switch()] = Field(
        False, description="The connection breaks before there is an answer."
    )
    truncate: Annotated[int | None, Size("0B", "1GiB")] = Field(
        None, description="So much of the response body, then it breaks off."
    )
    percent: Annotated[float, Percent("0.001%")] = Field(1.0, description="The part of the attempts.")
    header: Mapping[Annotated[str, FieldName()], Annotated[str, FieldValue()]] = Field(
        {}, min_length=1, description="Only requests with this field; `*` is any value."
    )
    allow_in_production: Annotated[bool, Switch()] = Field(
        False, description="Without, `profile: production` refuses this."
    )
