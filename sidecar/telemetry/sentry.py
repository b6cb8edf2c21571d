"""Faults of the sidecar itself, told to Sentry: exceptions that nobody foresaw, and nothing else.

The SDK's client is used alone. No integration is on and nothing is put into its global scope, so it patches nothing
(not asyncio, aiohttp or logging) and knows of no request. What is sent is on a list: the chain of exceptions with their
stacks, release, environment, host name, and the tags that are given here. No local variables, no request, no
breadcrumbs. The text of an exception is scrubbed (`redaction.py`): it is anybody's.

Making an event means reading source files and formatting stacks, a millisecond or more: a thread of ours does it, and
one of the SDK's sends it. At most five faults a second and 64 at a time are taken, further ones dropped and counted, so
that a fault in every request does not become worse by being told of. A dead Sentry costs reports and nothing else;
`close` waits for it for a moment only. The DSN is in no line of the log and in no message of an error. Reports go to its
host and nowhere else: not to a proxy that the environment names.
"""

import logging
import threading
from queue import SimpleQueue
from time import monotonic
from typing import Any

from sidecar.config.observing import TelemetryConfig
from sidecar.errors import StartFailed
from sidecar.telemetry.redaction import scrubbed
from sidecar.version import VERSION

__all__ = ["Reporter", "make_reporter"]

_QUEUE = 64
_PER_SECOND = 5

_SENT = frozenset(
    {"environment", "event_id", "exception", "level", "platform", "release", "sdk", "server_name", "tags"}
    | {"timestamp"}
)
_OF_FRAME = frozenset(
    {"abs_path", "context_line", "filename", "function", "in_app", "lineno", "module"}
    | {"post_context", "pre_context"}
)

_Fault = tuple[BaseException, dict[str, str]]


def make_reporter(settings: TelemetryConfig | None, profile: str) -> "Reporter | None":
    """Give the reporter that `telemetry` asks for, if it does. The profile stands in for an environment without a name.

    Raises:
        StartFailed: the extra is not installed.

    """
    sentry = settings.sentry if settings is not None else None
    if sentry is None:
        return None
    return Reporter(sentry.dsn, environment=sentry.environment or profile, sample=sentry.sample)


class Reporter:
    """Tells of faults. One for the process. `dropped` counts those that were not told of for want of room.

    `environment` is what the reports call this place, `sample` the share, from 0 to 1, of faults that are sent.

    Raises:
        StartFailed: the extra is not installed, or the DSN is none.

    """

    def __init__(self, dsn: str, *, environment: str, sample: float = 1.0) -> None:
        self._client = _client(dsn, environment, sample)
        self._faults: SimpleQueue[_Fault | None] = SimpleQueue()
        self._second = float("-inf")
        self._taken = 0  # in this second
        self._patience = 0.0
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="sentry-reports", daemon=True)
        self._thread.start()

    def report(self, fault: BaseException, **tags: str) -> None:
        """Queue a fault. It never waits and never raises."""
        now = monotonic()
        if now - self._second >= 1.0:
            self._second = now
            self._taken = 0
        if self._taken >= _PER_SECOND or self._faults.qsize() >= _QUEUE:
            self.dropped += 1
            return
        self._taken += 1
        self._faults.put((fault, tags))

    def close(self, seconds: float = 1.0) -> None:
        """Send what is queued, for at most so many seconds. It blocks: not for the event loop."""
        self._patience = seconds
        self._faults.put(None)
        self._thread.join(seconds)

    def _run(self) -> None:
        while (item := self._faults.get()) is not None:
            try:
                self._send(*item)
            except Exception:  # noqa: BLE001 -- a fault of telling is worth less than the next one to tell
                self.dropped += 1
            del item  # its stack holds a whole request
        self._client.close(timeout=self._patience)

    def _send(self, fault: BaseException, tags: dict[str, str]) -> None:
        from sentry_sdk.utils import event_from_exception  # noqa: PLC0415 -- an extra, which most do without

        event, hint = event_from_exception(fault, client_options=self._client.options)
        event["tags"] = tags
        self._client.capture_event(event, hint=hint)


def _client(dsn: str, environment: str, sample: float) -> Any:
    try:
        from sentry_sdk import Client  # noqa: PLC0415 -- as above
        from sentry_sdk.utils import BadDsn  # noqa: PLC0415 -- as above
    except ImportError as error:
        raise StartFailed(
            f"telemetry.sentry needs what is not installed ({error.name}): pip install 'resilience-sidecar[sentry]'"
        ) from error
    for name in ("sentry_sdk", "urllib3"):  # their own words about a dead Sentry would go to stderr
        logger = logging.getLogger(name)
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())
        logger.propagate = False
    client: Any = Client
    try:
        return client(
            dsn=dsn,
            environment=environment,
            release=f"resilience-sidecar@{VERSION}",
            sample_rate=sample,
            before_send=_allowed,
            debug=False,
            default_integrations=False,
            auto_enabling_integrations=False,
            auto_session_tracking=False,
            enable_backpressure_handling=False,
            include_local_variables=False,
            in_app_include=["sidecar"],
            max_breadcrumbs=0,
            max_request_body_size="never",
            send_client_reports=False,
            spotlight=False,
            http_proxy="",  # none, rather than that of the environment
            https_proxy="",
        )
    except BadDsn:
        raise StartFailed("telemetry.sentry.dsn is not a DSN") from None


def _allowed(event: Any, _: Any) -> Any:
    """Give what of an event may leave the machine."""
    allowed = {key: value for key, value in event.items() if key in _SENT}
    exceptions = allowed.get("exception", {}).get("values", [])
    allowed["exception"] = {"values": [_exception(each) for each in exceptions]}
    return allowed


def _exception(told: dict[str, Any]) -> dict[str, Any]:
    frames = (told.get("stacktrace") or {}).get("frames", [])
    return {
        "type": told.get("type"),
        "module": told.get("module"),
        "value": scrubbed(str(told.get("value") or "")),
        "stacktrace": {
            "frames": [{key: value for key, value in frame.items() if key in _OF_FRAME} for frame in frames]
        },
    }
