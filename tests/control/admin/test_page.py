"""The live page where the admin listener serves it."""

from sidecar.control.page import page_csp, page_html
from tests.control.admin.conftest import TOKEN, Start


async def test_it_comes_with_the_policy_that_lets_it_run_and_without_a_token(start: Start) -> None:
    for token in (None, TOKEN):
        admin = await start(token=token)

        response = await admin.client.get("/")

        assert (response.status, response.content_type, response.charset) == (200, "text/html", "utf-8")
        assert await response.read() == page_html()
        assert response.headers.getall("Content-Security-Policy") == [page_csp()]
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Frame-Options"] == "DENY"
