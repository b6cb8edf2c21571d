"""Who is let in: by which name, with which token, from which site. Who is not changes nothing, and is logged."""

import asyncio
from typing import Any

import pytest

from tests.control.admin.conftest import JSON, TOKEN, YAML, Admin, Start, problem_of

OPEN = "/breakers/database/open"


def states(admin: Admin) -> set[str]:
    """Give what states the breakers are in."""
    return {str(breaker.state) for breaker in admin.live.guards.breakers.values()}


def refusals(admin: Admin) -> list[tuple[str, str, str, int]]:
    """Give what the log says of refusals: action, target, by what right, status."""
    return [
        (line["action"], line["target"], line["by"], line["status"])
        for line in admin.lines
        if line["event"] == "admin.refused"
    ]


# --- the name ---


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:9901",
        "localhost.",
        "page.localhost:1",
        "127.0.0.1",
        "127.9.9.9:80",
        "[::1]:9901",
        "[::1]",
    ],
)
async def test_it_goes_by_every_name_of_this_machine(admin: Admin, host: str) -> None:
    response = await admin.client.get("/breakers", headers={"Host": host})

    assert response.status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:9901",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil-localhost",
        "localhost@evil.example",
        "localhost:9901:80",
        "localhost:x",
        "192.0.2.1",
        "[2001:db8::1]:9901",
        "[::1]evil.example",
        "[::1",
        ":9901",
        "2130706433",
        "0x7f.1",
        "localhost evil.example",
    ],
)
async def test_a_page_whose_name_was_made_to_point_here_gets_421_and_changes_nothing(
    admin: Admin, host: str
) -> None:
    for method, path in (("GET", "/breakers"), ("POST", OPEN), ("GET", "/"), ("GET", "/nothing")):
        response = await admin.client.request(method, path, headers={**JSON, "Host": host})
        assert (response.status, (await problem_of(response))["code"]) == (421, "wrong_host")

    assert states(admin) == {"CLOSED"}
    assert refusals(admin) == [
        ("read", "/breakers", "stranger", 421),
        ("breaker.open", "database", "stranger", 421),
        ("read", "/", "stranger", 421),
        ("read", "/nothing", "stranger", 421),
    ]


async def test_without_a_host_or_with_two_it_is_nobodys(admin: Admin) -> None:
    for head in (
        b"GET /breakers HTTP/1.0\r\n\r\n",
        b"GET /breakers HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    ):
        status = (await raw(admin, head)).split(b" ", 2)[1]
        assert status in {b"400", b"421"}


async def test_it_goes_by_the_names_of_the_configuration(start: Start) -> None:
    admin = await start(hosts=("sidecar.internal", "Admin.Example:8443", "[2001:db8::7]"))

    seen = {}
    for host in (
        "sidecar.internal",
        "SIDECAR.internal:9901",
        "admin.example:8443",
        "admin.example",
        "admin.example:80",
        "[2001:db8::7]:9901",
        "other.internal",
    ):
        seen[host] = (await admin.client.get("/breakers", headers={"Host": host})).status

    assert seen == {
        "sidecar.internal": 200,
        "SIDECAR.internal:9901": 200,
        "admin.example:8443": 200,
        "admin.example": 421,
        "admin.example:80": 421,
        "[2001:db8::7]:9901": 200,
        "other.internal": 421,
    }


async def test_it_goes_by_the_name_that_it_listens_on(start: Start) -> None:
    text = YAML.replace(
        "version: 1\n", f"version: 1\nlisten: {{admin: 'box.internal:9901'}}\nadmin: {{token: {TOKEN}}}\n"
    )
    admin = await start(text)

    assert (await admin.client.get("/breakers", headers={"Host": "box.internal:9901"})).status == 200
    assert (await admin.client.get("/breakers", headers={"Host": "other.internal:9901"})).status == 421


# --- the token ---


@pytest.mark.parametrize("said", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"BEARER  {TOKEN} "])
async def test_the_right_token_lets_one_look_and_change(start: Start, said: str) -> None:
    admin = await start(token=TOKEN)

    looked = await admin.client.get("/breakers", headers={"Authorization": said})
    changed = await admin.client.post(OPEN, headers={"Authorization": said})

    assert (looked.status, changed.status) == (200, 200)
    assert [(line["client"], line["by"]) for line in admin.lines] == [("127.0.0.1", "token")]


@pytest.mark.parametrize(
    "said",
    [
        "Bearer",
        "Bearer ",
        "Bearer x",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Basic {TOKEN}",
        TOKEN,
        "Bearer ä",
    ],
)
async def test_a_wrong_token_gets_401_and_changes_nothing(start: Start, said: str) -> None:
    admin = await start(token=TOKEN)

    response = await admin.client.post(OPEN, headers={**JSON, "Authorization": said})

    assert (response.status, (await problem_of(response))["code"]) == (401, "token_wrong")
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="sidecar", error="invalid_token"'
    assert states(admin) == {"CLOSED"}
    assert refusals(admin) == [("breaker.open", "database", "stranger", 401)]
    assert admin.live.changes["breaker.open", "refused"] == 1


async def test_without_a_token_everything_that_tells_of_this_sidecar_is_401(start: Start) -> None:
    admin = await start(token=TOKEN)

    seen = {
        path: (await admin.client.get(path)).status
        for path in ("/openapi.json", "/breakers", "/state", "/config", "/events", "/requests", "/nothing")
    }

    assert seen == {
        "/openapi.json": 200,
        "/breakers": 401,
        "/state": 401,
        "/config": 401,
        "/events": 401,
        "/requests": 401,
        "/nothing": 401,
    }
    challenge = (await admin.client.get("/breakers")).headers["WWW-Authenticate"]
    assert challenge == 'Bearer realm="sidecar"'


async def test_no_refusal_repeats_the_token(start: Start) -> None:
    admin = await start(token=TOKEN)

    response = await admin.client.post(OPEN, headers={"Authorization": f"Bearer {TOKEN[:-1]}"})

    assert TOKEN[:-1] not in str(admin.lines) + await response.text() + str(admin.live.hub.recent)


async def test_a_reload_puts_another_token_in_force(start: Start) -> None:
    admin = await start(token=TOKEN)
    other = TOKEN[::-1]
    later = await start(YAML.replace("version: 1\n", f"version: 1\nadmin: {{token: {other}}}\n"), token=other)

    admin.live.loaded = later.live.loaded

    seen = [
        (await admin.client.get("/breakers", headers={"Authorization": f"Bearer {said}"})).status
        for said in (TOKEN, other)
    ]
    assert seen == [401, 200]


# --- other sites ---


FORMS = [
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "text/plain",
    "text/plain;application/json",
]


@pytest.mark.parametrize("media", FORMS)
@pytest.mark.parametrize("site", [{}, {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}])
async def test_a_form_of_another_site_changes_nothing(admin: Admin, media: str, site: dict[str, str]) -> None:
    response = await admin.client.post(OPEN, data=b"a=b", headers={"Content-Type": media, **site})

    await problem_of(response)
    assert response.status == (403 if site else 415)
    assert states(admin) == {"CLOSED"}
    assert refusals(admin) == [("breaker.open", "database", "stranger", response.status)]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", OPEN),
        ("POST", "/breakers/reset"),
        ("DELETE", "/cache"),
        ("PUT", "/maintenance"),
        ("POST", "/config/reload"),
    ],
)
async def test_a_change_says_that_it_is_json_also_without_a_body(
    admin: Admin, method: str, path: str
) -> None:
    bare = await admin.client.request(method, path, skip_auto_headers=["Content-Type"])
    said = await admin.client.request(
        method, path, headers={"Content-Type": "Application/JSON; charset=utf-8"}
    )

    assert (bare.status, said.status) == (415, 200)


@pytest.mark.parametrize(
    "site",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
        {"Sec-Fetch-Site": "anything"},
    ],
)
async def test_what_a_page_of_another_site_sends_as_json_is_403(admin: Admin, site: dict[str, str]) -> None:
    assert await admin.refusal("POST", OPEN, headers={**JSON, **site}) == (403, "cross_site")
    assert states(admin) == {"CLOSED"}


async def test_the_live_page_itself_may_change_things(admin: Admin) -> None:
    own = f"http://{admin.client.host}:{admin.client.port}"

    response = await admin.client.post(OPEN, headers={**JSON, "Origin": own, "Sec-Fetch-Site": "same-origin"})

    assert response.status == 200


async def test_another_site_may_lead_here_but_not_fetch(admin: Admin) -> None:
    foreign = {"Sec-Fetch-Site": "cross-site"}

    fetched = await admin.client.get("/breakers", headers={**foreign, "Sec-Fetch-Mode": "no-cors"})
    asked = await admin.client.get("/breakers", headers={"Origin": "https://evil.example"})
    led = await admin.client.get("/breakers", headers={**foreign, "Sec-Fetch-Mode": "navigate"})

    assert (fetched.status, asked.status, led.status) == (403, 403, 200)
    assert "Access-Control-Allow-Origin" not in asked.headers


async def test_nobody_is_given_the_permission_to_send_json_from_elsewhere(admin: Admin) -> None:
    preflight = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}

    response = await admin.client.options(OPEN, headers=preflight)

    assert response.status == 403
    assert not [name for name in response.headers if name.lower().startswith("access-control")]


async def test_with_the_token_nothing_else_is_asked_for(start: Start) -> None:
    admin = await start(token=TOKEN)
    said = {
        "Authorization": f"Bearer {TOKEN}",
        "Origin": "https://tools.example",
        "Sec-Fetch-Site": "cross-site",
    }

    response = await admin.client.post(OPEN, headers=said, skip_auto_headers=["Content-Type"])

    assert response.status == 200


# --- what browsers are told ---


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/breakers", 200),
        ("GET", "/nothing", 404),
        ("POST", "/state", 405),
        ("GET", "/breakers/x", 404),
        ("POST", OPEN, 200),
    ],
)
async def test_every_answer_forbids_what_a_browser_must_not_do_with_it(
    admin: Admin, method: str, path: str, status: int
) -> None:
    response = await admin.client.request(method, path, headers=JSON)

    assert response.status == status
    assert {name: response.headers.get(name) for name in SECURE} == SECURE


async def test_an_expectation_that_nobody_meets_is_refused_like_everything_else(admin: Admin) -> None:
    response = await admin.client.post(OPEN, headers={**JSON, "Expect": "wonders"})

    assert response.status == 417
    assert {name: response.headers.get(name) for name in SECURE} == SECURE
    assert states(admin) == {"CLOSED"}
    assert refusals(admin) == [("breaker.open", "database", "loopback", 417)]


@pytest.mark.parametrize("expected", ["wonders", "100-continue"])
async def test_a_stranger_is_refused_before_anybody_looks_what_he_expects(
    start: Start, expected: str
) -> None:
    admin = await start(token=TOKEN)
    head = f"POST {OPEN} HTTP/1.1\r\nHost: localhost\r\nExpect: {expected}\r\nContent-Length: 0\r\n"

    answers = [
        await raw(admin, f"{said}Connection: close\r\n\r\n".encode())
        for said in (head, head.replace("localhost", "evil.example"))
    ]

    assert [answer.split()[1] for answer in answers] == [b"401", b"421"]
    assert [status for _, _, _, status in refusals(admin)] == [401, 421]


async def test_who_waits_to_be_asked_for_his_body_is_asked(admin: Admin) -> None:
    host: Any = admin.client.host
    reader, writer = await asyncio.open_connection(host, admin.client.port)
    writer.write(
        b"PUT /log-level HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Expect: 100-continue\r\nContent-Length: 17\r\nConnection: close\r\n\r\n"
    )

    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b'{"level":"debug"}')
    assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
    writer.close()


async def test_bytes_that_are_no_request_are_answered_like_everything_else(admin: Admin) -> None:
    head = (await raw(admin, b"nonsense\r\n\r\n")).partition(b"\r\n\r\n")[0].decode()
    fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:])

    assert {name: fields.get(name) for name in SECURE} == SECURE


SECURE = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Server": "sidecar",
}


async def raw(admin: Admin, data: bytes) -> bytes:
    """Send bytes, and give what comes back until the other side closes."""
    host: Any = admin.client.host
    reader, writer = await asyncio.open_connection(host, admin.client.port)
    try:
        writer.write(data)
        return await reader.read()
    finally:
        writer.close()
