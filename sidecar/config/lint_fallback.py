"""Warnings about fallbacks: steps whose turn never comes, and answers that are not what they say."""

import json
from collections.abc import Iterator
from pathlib import Path as FilePath

from sidecar.config.model import Config
from sidecar.config.policies import FallbackStep, StaticStep
from sidecar.config.rules import Suspicion, rule

__all__: list[str] = []

_LARGEST = 16 << 20  # bytes of a file that are worth looking at


@rule("step-out-of-reach", "a step above it answers first, or no such request ever comes here")
def step_out_of_reach(config: Config) -> Iterator[Suspicion]:
    """Find steps that follow one which always has an answer, and those for methods that the route does not take."""
    for index, route in enumerate(config.routes):
        certain: list[tuple[int, FallbackStep]] = []
        for number, step in enumerate(route.fallback or ()):
            at = ("routes", index, "fallback", number)
            if route.match.methods and not set(route.match.methods) & set(step.methods):
                yield Suspicion(
                    f"is for {_words(step.methods)}, and the route takes only {_words(route.match.methods)}",
                    ((*at, "methods"), at),
                    own=True,
                )
            above = next((each for each, other in certain if _covers(other, step)), None)
            if above is not None:
                yield Suspicion(f"is never reached: step {above + 1}, above it, always has an answer", (at,))
            if step.static or step.mock or step.redirect:
                certain.append((number, step))


@rule("fallback-to-itself", "an upstream that has just failed is asked once more, in the hour of its need")
def fallback_to_itself(config: Config) -> Iterator[Suspicion]:
    """Find steps that ask the upstream of the route."""
    for index, route in enumerate(config.routes):
        for number, step in enumerate(route.fallback or ()):
            if step.upstream and step.upstream.name == route.upstream:
                at = ("routes", index, "fallback", number, "upstream", "name")
                yield Suspicion("is the upstream that has failed", (at, at[:-1]))


@rule("fallback-not-json", "clients that read it as JSON fail, and just when they were to be spared that")
def fallback_not_json(config: Config) -> Iterator[Suspicion]:
    """Find answers that are called JSON and are none."""
    for index, route in enumerate(config.routes):
        for number, step in enumerate(route.fallback or ()):
            for kind, answer in (("static", step.static), ("mock", step.mock)):
                if answer is None or not _is_json(answer.content_type):
                    continue
                wrong = _not_json(answer)
                if wrong is not None:
                    at = ("routes", index, "fallback", number, kind)
                    key = "file" if answer.file is not None else "body"
                    yield Suspicion(
                        f"`content_type` is `{answer.content_type}`, and this is no JSON: {wrong}",
                        ((*at, key), (*at, "content_type"), at),
                    )


def _covers(above: FallbackStep, below: FallbackStep) -> bool:
    return set(above.when) >= set(below.when) and set(above.methods) >= set(below.methods)


def _words(methods: tuple[str, ...]) -> str:
    return ", ".join(methods)


def _is_json(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower().endswith("json")


def _not_json(answer: StaticStep) -> str | None:
    """Return what is wrong with a body that should be JSON."""
    if answer.file is not None:
        try:
            with FilePath(answer.file).open("rb") as file:
                body = file.read(_LARGEST + 1)
        except OSError as error:
            return f"it cannot be read any more: {error.strerror}"
    else:
        body = (answer.body or "").encode("utf-8", "surrogatepass")
    if not body and answer.status in (204, 205):
        return None
    try:
        json.loads(body)
    except ValueError as error:
        return "it is empty" if not body else f"{error}"
    return None
