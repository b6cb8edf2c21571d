"""Rules for what is seen and steered: who may reach the admin address, fields that tell states, probes, TLS files.

Like `checks`, they look at the tree in force and leave what is none of its kind alone.
"""

from collections.abc import Callable, Iterator, Mapping

from sidecar.config.alternatives import OFF
from sidecar.config.checks import Finding, each_of, listener
from sidecar.config.checks_policies import amount, stages
from sidecar.config.observing import HealthConfig
from sidecar.config.tree import Node
from sidecar.config.words import shown

__all__ = ["OBSERVING_CHECKS"]


def admin_token(root: Node) -> Iterator[Finding]:
    """Find an admin address that others can reach, without a token to keep them out."""
    listen, admin = root.entries.get("listen"), root.entries.get("admin")
    address = listener(listen, "admin")
    if listen and address and not address.is_local and not (admin and "token" in admin.entries):
        yield Finding(
            listen.entries["admin"],
            "can be reached from other machines, so `admin: {token: …}` is required; "
            f"`127.0.0.1:{address.port}` and `unix:///…` do not need it",
        )


def state_fields(root: Node) -> Iterator[Finding]:
    """Find breakers that tell their state in the field of a shared one.

    Those of the routes' own may have one field, which they often inherit: an answer is of one route.
    """
    first: dict[str, Node] = {}
    for breaker in each_of(root, "breakers"):
        field = _state_field(breaker)
        if field and first.setdefault(str(field.value).lower(), field) is not field:
            yield _taken(field, first)
    for breaker in stages(root, "breaker"):
        field = _state_field(breaker)
        if field and str(field.value).lower() in first:
            yield _taken(field, first)


def probes(root: Node) -> Iterator[Finding]:
    """Find probes that may take longer than the time to the next one."""
    for upstream in each_of(root, "upstreams"):
        health = upstream.entries.get("health")
        if health is None:
            continue
        timeout, interval = (amount(health, HealthConfig, key) for key in ("timeout", "interval"))
        if timeout is not None and interval is not None and timeout > interval:
            most = shown(health.entries["interval"].value)
            yield Finding(health.entries["timeout"], f"must not be larger than `interval` ({most})")


def readiness(root: Node) -> Iterator[Finding]:
    """Find readiness that asks for upstreams of which nothing is known."""
    settings = root.entries.get("readiness")
    required = settings.entries.get("require_upstream") if settings else None
    if required is None or required.value is not True:
        return
    settings_that_tell = (
        *(upstream.entries.get("health") for upstream in each_of(root, "upstreams")),
        *(route.entries.get("breaker") for route in each_of(root, "routes")),
    )
    if all(each is None or each.value == OFF for each in settings_that_tell):
        yield Finding(required, "needs `health` in an upstream, or a breaker: nothing else tells how it is")


OBSERVING_CHECKS: tuple[Callable[[Node], Iterator[Finding]], ...] = (
    admin_token,
    state_fields,
    probes,
    readiness,
)


def _state_field(breaker: Node) -> Node | None:
    field = breaker.entries.get("header")
    return field if field and isinstance(field.value, str) and field.value != OFF else None


def _taken(field: Node, first: Mapping[str, Node]) -> Finding:
    line = first[str(field.value).lower()].origin.mark.line
    return Finding(field, f"{shown(field.value)} is the field of the breaker at line {line} already")
