"""Who changed what, and who was not let: one log line, one count and one event for each change and each refusal.

A change is logged with how its target was before and is now. A request is refused before it has changed anything, so its
line has the reason instead. Requests that only read are logged when they were kept out.

Of strangers, those whom the guard does not let in, there may be as many as they like. So at most `LINES_PER_SECOND` of
their refusals get a line, the next line says how many had none, and at most one a second becomes an event: nobody can
bury the log, nor wash the last changes of state out of what the hub keeps. All of them are counted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from aiohttp import web

from sidecar.config.words import one_line
from sidecar.control.admin.endpoint import Changed, Endpoint
from sidecar.control.admin.problem import Problem
from sidecar.telemetry.live import Live

__all__ = ["LINES_PER_SECOND", "Audit", "Who"]

LINES_PER_SECOND = 10

_LONGEST = 128  # characters of a name that somebody sent
_READS = frozenset({"GET", "HEAD"})
_KEPT_OUT = frozenset({401, 403, 421})

Outcome = Literal["done", "refused", "failed"]


@dataclass(frozen=True, slots=True)
class Who:
    """Who asked: the client's address, and by what right. `stranger`: the guard has not let him in."""

    client: str
    by: Literal["token", "loopback", "stranger"]

    def __str__(self) -> str:
        return f"{self.client} ({self.by})"


class Audit:
    """Writes to `log`, counts in `live.changes`, tells the hub."""

    def __init__(self, live: Live, log: Callable[..., None], endpoints: Sequence[Endpoint]) -> None:
        self._live = live
        self._log = log
        self._since = float("-inf")  # the second in which strangers are counted
        self._lines = 0
        self._suppressed = 0
        # Counted from the start, so that the metric has its series before anybody is refused.
        for action in sorted({each.action for each in endpoints if each.action is not None}):
            for outcome in ("done", "refused", "failed"):
                live.changes.setdefault((action, outcome), 0)
        for action in ("read", "unknown"):
            live.changes.setdefault((action, "refused"), 0)

    def changed(self, who: Who, action: str, change: Changed) -> None:
        """Note a change that was made."""
        self._count(action, "done")
        self._log(
            "admin.change",
            action=action,
            target=change.target,
            client=who.client,
            by=who.by,
            before=change.before,
            after=change.after,
            outcome="done",
        )
        self._tell(who, action, change.target, "done")

    def refused(
        self, who: Who, request: web.Request, action: str | None, target: str | None, why: Problem
    ) -> None:
        """Note a refusal, if it is of a change, or of somebody who was kept out."""
        reads = request.method in _READS
        if reads and why.status not in _KEPT_OUT:
            return
        named = action or ("read" if reads else "unknown")
        self._count(named, "refused")
        self._refusal(
            who,
            action=named,
            target=one_line((request.path if target is None else target)[:_LONGEST]),
            method=request.method,
            status=why.status,
            code=why.code,
            why=why.detail,
        )

    def malformed(self, who: Who, why: str) -> None:
        """Note bytes that are no request."""
        self._count("unknown", "refused")
        self._refusal(who, action="unknown", target=None, status=400, code="malformed", why=why)

    def failed(self, who: Who, action: str | None, target: str | None, fault: Exception) -> None:
        """Note a fault of ours. What it has changed nobody knows."""
        if action is not None:
            self._count(action, "failed")
            self._tell(who, action, target, "failed")
        self._log(
            "admin.fault",
            action=action or "read",
            target=target,
            client=who.client,
            by=who.by,
            outcome="failed",
            exc_info=fault,
        )

    def _refusal(self, who: Who, *, action: str, target: str | None, **fields: Any) -> None:
        """Write the line of a refusal and tell the hub, unless there are too many."""
        stranger = who.by == "stranger"
        if stranger and not self._may_be_told():
            return
        if stranger and self._suppressed:
            fields["suppressed"], self._suppressed = self._suppressed, 0
        self._log(
            "admin.refused",
            action=action,
            target=target,
            client=who.client,
            by=who.by,
            **fields,
            outcome="refused",
        )
        if not stranger or self._lines == 1:
            self._tell(who, action, target, "refused")

    def _may_be_told(self) -> bool:
        """Tell whether a stranger's refusal gets a line in this second."""
        now = self._live.now()
        if now - self._since >= 1.0:
            self._since = now
            self._lines = 0
        if self._lines >= LINES_PER_SECOND:
            self._suppressed += 1
            return False
        self._lines += 1
        return True

    def _count(self, action: str, outcome: Outcome) -> None:
        key = (action, outcome)
        self._live.changes[key] = self._live.changes.get(key, 0) + 1

    def _tell(self, who: Who, action: str, target: str | None, outcome: Outcome) -> None:
        self._live.hub.publish(
            "admin", {"action": action, "target": target, "who": str(who), "outcome": outcome}
        )
