"""`GET /`: the live page, with the policy that lets a browser run exactly that."""

from aiohttp import web

from sidecar.control.admin.endpoint import Call, Control
from sidecar.control.page import page_csp, page_html

__all__ = ["page"]


async def page(_: Control, __: Call) -> web.Response:
    """Give the page."""
    return web.Response(
        body=page_html(),
        content_type="text/html",
        charset="utf-8",
        headers={"Content-Security-Policy": page_csp()},
    )
