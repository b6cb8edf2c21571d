"""What would become of one request, and why, without sending it: which route, in what order its stages, on what values.

It is asked of the objects that serve requests: the wire's reader (`explain_request`), the router, the pipelines, the
policies. There is no second opinion that could be wrong. `explain_json` only reads. It is asked on the loop of the
traffic as well, so of hundreds of routes whose path alone does not fit, it tells of `LISTED`: 2 ms with 200 routes.

    {"request": {"method", "target", "host", "host_assumed", "matched_as", "body", "ignored": [name]} | null,
     "route": name | null, "at": "file:line" | null,
     "passed_over": [{"route", "why", "at"}],       in file order
     "not_listed": how many more were passed over for their path
     "not_asked": routes that stand behind the one that is taken
     "stages": [text],                              outermost first
     "values": [{"key", "value", "origin"}],
     "upstream": {"name", "url", "at"} | null,
     "words": [{"about", "could", "text"}],         what the policies would make of this request
     "answer": "404 no_route" | null, "why": text | null}

`answer` is there where the sidecar itself would answer, whatever the state of things; `why` says it in a sentence.
"""

from collections.abc import Sequence
from typing import Any

from sidecar.config.load import Loaded
from sidecar.config.model import RouteConfig
from sidecar.config.pattern import match_path
from sidecar.config.router import Router
from sidecar.config.tree import Path
from sidecar.control.explain_request import Asked, asked
from sidecar.control.explain_values import asked_for, place, values
from sidecar.control.explain_words import words
from sidecar.errors import BodyTooLarge, ClientError, NoRoute
from sidecar.pipeline.assemble import Pipeline

__all__ = ["LISTED", "explain_json"]

LISTED = 100


def explain_json(  # noqa: PLR0917 -- what it is asked of, and what it is asked: always all of them
    loaded: Loaded,
    router: Router,
    pipelines: Sequence[Pipeline],
    method: str,
    url: str,
    headers: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    """Tell what would become of a request. `router` and `pipelines` are those made of `loaded`.

    `url` is absolute or a path, `headers` are names and values; a Host among them goes before the URL's. Never raises:
    what is malformed is answered as the traffic listener would.
    """
    told = _nothing()
    try:
        question = asked(loaded.config, method, url, headers)
    except ClientError as error:
        return told | _answer(error)
    told["request"] = _request(question)
    request = question.request
    if request.max_forwards == 0:
        return told | {
            "answer": "200 ok",
            "why": "Max-Forwards is 0, so it goes no further (RFC 9110 §7.6.2).",
        }
    pairs = request.fields.pairs
    index = router.find(request.method, request.host, request.path, pairs)
    verdicts = router.explain(request.method, request.host, request.path, pairs)
    told |= _passed(loaded, [each for each in verdicts if each[1] != "chosen"])
    if index < 0:
        return told | _answer(NoRoute())
    return told | _taken(loaded, index, pipelines[index], question)


def _nothing() -> dict[str, Any]:
    return {
        "request": None,
        "route": None,
        "at": None,
        "passed_over": [],
        "not_listed": 0,
        "not_asked": 0,
        "stages": [],
        "values": [],
        "upstream": None,
        "words": [],
        "answer": None,
        "why": None,
    }


def _answer(error: ClientError) -> dict[str, Any]:
    return {"answer": f"{error.status} {error.fate}", "why": str(error)}


def _request(question: Asked) -> dict[str, Any]:
    request = question.request
    length = "of unknown length" if request.length is None else f"{request.length} bytes"
    path = match_path(request.path)
    return {
        "method": request.method.decode("latin-1"),
        "target": request.target.decode("latin-1"),
        "host": request.host.decode("latin-1"),
        "host_assumed": question.host_assumed,
        "matched_as": path.decode("latin-1") if path != request.path else None,
        "body": length if question.has_body else None,
        "ignored": list(question.ignored),
    }


def _taken(loaded: Loaded, index: int, pipeline: Pipeline, question: Asked) -> dict[str, Any]:
    route = loaded.config.routes[index]
    told = {
        "route": route.name,
        "at": place(loaded, ("routes", index, "name")),
        "not_asked": len(loaded.config.routes) - index - 1,
        "stages": pipeline.describe(),
        "values": values(loaded, index),
        "upstream": {
            "name": route.upstream,
            "url": str(loaded.config.upstreams[route.upstream].url),
            "at": place(loaded, ("upstreams", route.upstream, "url")),
        },
        "words": words(pipeline, route, question),
    }
    length = question.request.length
    if question.has_body and route.max_body is not None and (length or 0) > route.max_body:
        told |= _answer(BodyTooLarge())
    return told


def _passed(loaded: Loaded, verdicts: Sequence[tuple[int, str]]) -> dict[str, Any]:
    by_path = [index for index, why in verdicts if why == "path"]
    left_out = set(by_path[LISTED:])
    listed = [_passed_over(loaded, index, why) for index, why in verdicts if index not in left_out]
    return {"passed_over": listed, "not_listed": len(left_out)}


def _passed_over(loaded: Loaded, index: int, verdict: str) -> dict[str, str]:
    """Say why a route was passed over, and where its file says so. `verdict` is `Router.explain`'s."""
    route = loaded.config.routes[index]
    path, asks = _condition(route, verdict.partition(" ")[0], verdict.partition(" ")[2])
    here: Path = ("routes", index, "match", *path)
    texts = [asked_for(loaded, (*here, number) if many else here, text) for number, (text, many) in asks]
    return {
        "route": route.name,
        "why": f"{verdict} is not {' or '.join(texts)}",
        "at": place(loaded, here, ("routes", index, "name")),
    }


def _condition(route: RouteConfig, kind: str, name: str) -> tuple[Path, list[tuple[int, tuple[str, bool]]]]:
    """Give the key of what did not fit, below `match`, and what it asks for: texts, and whether they stand in a list."""
    match = route.match
    if kind == "path":
        key, text = ("path", match.path) if match.path_regex is None else ("path_regex", match.path_regex)
        return (key,), [(0, (text or "", False))]
    if kind == "header":
        spelled = next(each for each in match.headers if each.lower() == name.lower())
        return ("headers", spelled), [(0, (match.headers[spelled], False))]
    key, several = ("host", match.host) if kind == "host" else ("methods", match.methods)
    return (key,), [(number, (text, True)) for number, text in enumerate(several)]
