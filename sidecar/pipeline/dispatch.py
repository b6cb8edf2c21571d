"""From a request to its route's pipeline: the handler that the wire calls."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from sidecar.config.router import Router
from sidecar.errors import Maintenance, NoRoute, RequestError
from sidecar.message import NO_FIELDS, Reply, Request
from sidecar.pipeline.answers import Answers, max_forwards_answer
from sidecar.pipeline.assemble import Parts, Pipeline, answer_only
from sidecar.pipeline.exchange import Exchange

__all__ = ["NO_ROUTE", "Dispatcher"]

NO_ROUTE = "_none"


class Dispatcher:
    """Finds the route and runs its pipeline.

    Reloading means making another one; what may change in this one is which routes are under maintenance. Such a route
    has another pipeline for the time, so that whoever is not under it pays nothing for the possibility.
    """

    __slots__ = (
        "_acting",
        "_answers",
        "_clock",
        "_find",
        "_local",
        "_new_id",
        "_none",
        "_parts",
        "_sink",
        "pipelines",
    )

    def __init__(
        self,
        router: Router,
        pipelines: Sequence[Pipeline],
        parts: Parts,
        sink: Callable[[Exchange], None],
        new_id: Callable[[], bytes],
    ) -> None:
        self._find = router.find
        self.pipelines = tuple(pipelines)
        self._acting = list(pipelines)
        self._parts = parts
        self._answers: Answers = parts.answers
        self._clock = parts.clock
        self._sink = sink
        self._new_id = new_id
        self._none = answer_only(NO_ROUTE, parts, _no_route)
        self._local = answer_only(NO_ROUTE, parts, lambda exchange: max_forwards_answer(exchange.request))

    def __call__(self, request: Request) -> Awaitable[Reply]:
        """Answer `request`; never raises anything but a cancellation."""
        if request.max_forwards == 0:
            pipeline = self._local
        else:
            index = self._find(request.method, request.host, request.path, request.fields.pairs)
            pipeline = self._acting[index] if index >= 0 else self._none
        return pipeline.call(Exchange(request, pipeline.route, self._clock, self._sink))

    def maintain(self, waits: Mapping[str, float]) -> None:
        """Answer the requests of these routes with 503 from now on, and no others.

        `waits` has by route the seconds after which callers are asked to come back. Requests under way go on.
        """
        self._acting = [
            each if each.route not in waits else _maintained(each.route, self._parts, waits[each.route])
            for each in self.pipelines
        ]

    def refuse(self, error: RequestError, client: str) -> Reply:
        """Answer bytes that never became a request. They too have an id, a fate and a record."""
        request = Request(b"", b"", NO_FIELDS)
        request.client = client
        request.request_id = error.request_id or self._new_id()
        exchange = Exchange(request, NO_ROUTE, self._clock, self._sink)
        exchange.error = error
        reply = self._answers.for_error(error, request)
        exchange.answer(reply, error.fate)
        return reply


def _maintained(route: str, parts: Parts, wait: float) -> Pipeline:
    def refuse(_: Exchange) -> Reply:
        raise Maintenance(retry_after=wait)

    return answer_only(route, parts, refuse)


def _no_route(_: Exchange) -> Reply:
    raise NoRoute
