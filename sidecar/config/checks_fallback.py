"""Rules for the steps of a fallback and for faults: what must be there, what excludes what, what production refuses."""

from collections.abc import Callable, Iterator

from sidecar.config.checks import Finding, is_unknown
from sidecar.config.checks_policies import stages
from sidecar.config.policies import READS, STEPS
from sidecar.config.tree import Node
from sidecar.config.words import did_you_mean, listing, shown

__all__ = ["FALLBACK_CHECKS"]

_ANSWERS = ("static", "mock")
_BODILESS = (204, 205)
_FAULTS = ("abort", "reset", "truncate")


def one_kind(root: Node) -> Iterator[Finding]:
    """Find steps that are several or none."""
    for step in _steps(root):
        kinds = [key for key in STEPS if key in step.entries]
        if isinstance(step.value, dict) and not kinds:
            yield Finding(step, f"must have one of {listing(STEPS)}")
        for key in kinds[1:]:
            yield Finding(
                step.entries[key],
                f"cannot stand beside `{kinds[0]}`; a step of its own begins with `- `",
                at_key=True,
            )


def answers(root: Node) -> Iterator[Finding]:
    """Find answers with two bodies, and with one where there cannot be any."""
    for step in _steps(root):
        for entries in (step.entries[key].entries for key in _ANSWERS if key in step.entries):
            bodies = [key for key in ("body", "file") if key in entries]
            if len(bodies) > 1:
                yield Finding(entries["file"], "cannot stand beside `body`", at_key=True)
            elif bodies and "status" in entries and entries["status"].value in _BODILESS:
                yield Finding(
                    entries[bodies[0]],
                    f"cannot be: an answer with status {entries['status'].value} has no body",
                    at_key=True,
                )


def stale_methods(root: Node) -> Iterator[Finding]:
    """Find stored copies that are to answer what copies cannot."""
    for step in _steps(root):
        methods = step.entries.get("methods")
        if methods is None or "stale" not in step.entries:
            continue
        for method in methods.items:
            if isinstance(method.value, str) and method.value.upper() not in READS:
                yield Finding(method, "has no stored copies: these are of GET, and answer GET and HEAD")


def references(root: Node) -> Iterator[Finding]:
    """Find upstreams that a step names, and that are not defined or are the route's own."""
    upstreams = root.entries.get("upstreams")
    known = upstreams.entries if upstreams else {}
    for step in _steps(root) if known else ():
        upstream = step.entries.get("upstream")
        name = upstream.entries.get("name") if upstream else None
        if name and is_unknown(name, known):
            hint = did_you_mean(str(name.value), known)
            yield Finding(name, f"no upstream has the name {shown(name.value)}{hint}")


def faults(root: Node) -> Iterator[Finding]:
    """Find faults that do nothing, or two things at once."""
    for fault in stages(root, "fault"):
        entries = fault.entries
        ends = [key for key in _FAULTS if key in entries and entries[key].value is not False]
        if isinstance(fault.value, dict) and not ends and "delay" not in entries:
            yield Finding(fault, f"does nothing: say {listing(('delay', *_FAULTS))}")
        for key in ends[1:]:
            yield Finding(entries[key], f"cannot stand beside `{ends[0]}`", at_key=True)
        header = entries.get("header")
        for extra in list(header.entries.values())[1:] if header else ():
            yield Finding(extra, "is one too many: a fault asks for one header field", at_key=True)


def not_in_production(root: Node) -> Iterator[Finding]:
    """Find what is made up or broken on purpose where that would be real."""
    profile = root.entries.get("profile")
    if profile is None or profile.value != "production":
        return
    why = "this is `profile: production`" + ("" if profile.origin.written else ", which is the default")
    for step in _steps(root):
        if mock := step.entries.get("mock"):
            yield Finding(
                mock, f"is refused: {why}, and a made-up answer would be taken for a real one", at_key=True
            )
    for fault in stages(root, "fault"):
        allowed = fault.entries.get("allow_in_production")
        if isinstance(fault.value, dict) and (allowed is None or allowed.value is False):
            yield Finding(fault, f"is refused: {why}; `allow_in_production: true` permits it", at_key=True)


FALLBACK_CHECKS: tuple[Callable[[Node], Iterator[Finding]], ...] = (
    one_kind,
    answers,
    stale_methods,
    references,
    faults,
    not_in_production,
)


def _steps(root: Node) -> Iterator[Node]:
    for fallback in stages(root, "fallback"):
        yield from fallback.items
