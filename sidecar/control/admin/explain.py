"""`GET /explain`: what would become of a request, told by what is in force now, without sending it."""

from typing import Any

from sidecar.control.admin.endpoint import Call, Control
from sidecar.control.admin.problem import Problem

__all__ = ["explain"]


async def explain(control: Control, call: Call) -> Any:
    """Tell its route, the stages and values, and why it is not another one."""
    live = control.live
    url = call.query["url"][0]
    headers = [_field(each) for each in call.query.get("header", ())]
    return control.explain(
        live.loaded, live.router, live.pipelines, call.one("method") or "GET", url, headers
    )


def _field(said: str) -> tuple[str, str]:
    name, colon, value = said.partition(":")
    if not colon or not name.strip():
        raise Problem(400, "bad_value", "`header` must be a name and a value, such as `Accept: text/html`.")
    return name.strip(), value.strip()
