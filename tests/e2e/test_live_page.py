"""The live page, in a browser, on a running sidecar: what a person sees and does there.

Pictures are kept where SIDECAR_TEST_PICTURES says, else with the test's other files.
"""

import http.client
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import gethostname
from typing import Any

import psutil
import pytest

from sidecar.version import VERSION

from .chrome import Chrome, Tab, chrome, pictures
from .kit import App, Sidecar, ask, free_port, pause, sidecar, until

TOKEN = "a-token-of-more-than-16"

# An upstream where nobody listens, behind a breaker that opens at once and stays open for long enough to look at.
BROKEN = """
version: 1
listen: {traffic: 127.0.0.1:0, ops: 127.0.0.1:0, admin: "127.0.0.1:ADMIN"}
admin: {ADMIN_SETTINGS}
upstreams: {app: {url: "APP"}, dead: {url: "http://127.0.0.1:9"}}
breakers: {database: {consecutive_failures: 3, open_for: 100s, open_max: 100s}}
routes:
  - {name: orders, match: {path: /orders/**}, upstream: dead, breaker: database, retry: off}
  - {name: reports, match: {path: /reports/**}, upstream: app, breaker: {consecutive_failures: 3}, cache: {fresh_for: 1m}}
  - {name: rest, upstream: app}
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chrome(tmp_path_factory.mktemp("browser")) as running:
        yield running


def config(app: App, *, admin: int = 0, settings: str = "") -> str:
    text = BROKEN.replace("APP", app.url).replace("ADMIN_SETTINGS", settings)
    return text.replace("ADMIN", str(admin))


@contextmanager
def page_of(browser: Chrome, running: Sidecar) -> Iterator[Tab]:
    """Open the page; at the end it must have asked nobody else, and have had no error but those that it was to have."""
    with browser.open(f"http://{running.admin}/") as tab:
        tab.until("document.body.dataset.link", "live")
        yield tab
        foreign = [
            url for url in tab.requests if not url.startswith((f"http://{running.admin}/", "data:", "about:"))
        ]
        assert foreign == []
        assert tab.errors == []


def fail_three_times(running: Sidecar) -> None:
    for number in range(3):
        assert ask(running.traffic, f"/orders/{number}").status == 502


def breaker(running: Sidecar, name: str = "database") -> dict[str, Any]:
    found: dict[str, Any] = ask(running.admin, f"/breakers/{name}").json()
    return found


FIRST_RESET = 'e.dataset.action === "reset" && e.closest("#troubles")'


def test_all_is_well_is_one_calm_line(browser: Chrome, app: App, tmp_path: Path) -> None:
    with sidecar(config(app), tmp_path) as running, page_of(browser, running) as tab:
        assert tab.text("h1") == "All is well"
        assert tab.text("#troubles") == ""
        which = f"{running.file.name} on {gethostname()}"
        assert tab.value("document.title") == f"All is well \u2013 {which}"
        assert (
            " ".join(tab.text(".brand").split())
            == f"{which}, 127.0.0.1:0, profile production, version {VERSION}"
        )
        assert tab.value(
            "[...document.querySelectorAll('#routes th[scope=row] button')].map(e => e.innerText)"
        ) == [
            "orders",
            "reports",
            "rest",
        ]
        assert tab.value("document.getElementById('news').textContent") == "All is well."
        tab.size(1280, 900)
        tab.picture(pictures(tmp_path) / "live-page-calm.png", whole=False)


def test_an_opened_breaker_says_why_and_counts_down_to_its_next_trial(
    browser: Chrome, app: App, tmp_path: Path
) -> None:
    with sidecar(config(app), tmp_path) as running, page_of(browser, running) as tab:
        fail_three_times(running)
        tab.until_text("#troubles h3", "Breaker database is open")

        card = tab.text("#troubles li")
        assert "Requests on orders are refused at once, or get their fallback" in card
        assert "It had seen 3 failures in a row." in card
        assert "The first failure was: no connection." in card
        assert "The last attempts: 3 \u00d7 no connection." in card
        first = tab.text("#troubles .next")
        assert re.fullmatch(r"Next trial in \d+ s\.", first)
        until(lambda: tab.text("#troubles .next") != first, "the countdown goes on")
        assert tab.text("h1") == "Something is wrong"
        assert "database is OPEN" in tab.text("#message")
        assert tab.text("#breakers tbody .badge") == "OPEN"
        assert "Breaker database: CLOSED → OPEN" in tab.text("#changes")
        assert tab.value("document.getElementById('news').textContent") == "Breaker database is open."
        assert tab.value("document.title").startswith("(1) ")

        ask(running.traffic, "/orders/late")
        tab.until_text("#requests", "The circuit breaker is open.")
        assert "No connection to the upstream." in tab.text("#requests")


# Several ways to fail, behind a route that is well.
SHARES = """
version: 1
listen: {traffic: 127.0.0.1:0, ops: 127.0.0.1:0, admin: 127.0.0.1:0}
defaults: {retry: off}
upstreams: {app: {url: "APP"}, dead: {url: "http://127.0.0.1:9"}}
routes:
  - {name: calm, match: {path: /calm}, upstream: app}
  - {name: unguarded, match: {path: /unguarded}, upstream: dead}
  - {name: items, match: {path: /items}, upstream: dead, fallback: [{static: {status: 503}}]}
  - {name: spared, match: {path: /spared}, upstream: dead, fallback: [{static: {status: 200}}]}
  - {name: guarded, match: {path: /guarded}, upstream: dead, breaker: {consecutive_failures: 5, open_for: 100s}}
"""
ROUTES = "[...document.querySelectorAll('#routes th[scope=row] button')].map(e => e.innerText)"
OUTCOMES = (
    "[...document.querySelectorAll('#routes .outcome')].map(e => e.innerText.replaceAll('\\u00a0', ' '))"
)


def statuses(running: Sidecar, path: str, times: int) -> list[int]:
    return [ask(running.traffic, path).status for _ in range(times)]


def test_a_page_that_is_opened_in_an_outage_knows_its_last_minute_and_has_the_worst_on_top(
    browser: Chrome, app: App, tmp_path: Path
) -> None:
    """An error that a fallback gives is none that its caller was spared; shares are never more than 100 % together."""
    with sidecar(SHARES.replace("APP", app.url), tmp_path) as running:
        assert statuses(running, "/calm", 8) == [404] * 8
        assert statuses(running, "/items", 12) == [503] * 12
        assert statuses(running, "/spared", 12) == [200] * 12
        assert statuses(running, "/guarded", 8) == [502] * 5 + [503] * 3
        with page_of(browser, running) as tab:
            assert tab.value(ROUTES) == ["items", "guarded", "calm", "unguarded", "spared"]
            assert tab.value(OUTCOMES) == [
                "100 % failed.",
                "38 % refused, 62 % failed.",
                "All answered",
                "No requests",
                "100 % rescued.",
            ]
            assert tab.text("#figure-bad") == "50 %"
            assert "100 % of the answers on items are errors" in tab.text("#troubles")


def test_what_stands_below_a_heading_is_about_the_same(browser: Chrome, app: App, tmp_path: Path) -> None:
    with sidecar(SHARES.replace("APP", app.url), tmp_path) as running, page_of(browser, running) as tab:
        statuses(running, "/unguarded", 12)
        tab.until_text("h1", "Something is wrong")

        assert ask(running.admin, "/state").json()["message"] == "All is well."
        assert tab.text("#message") == "100 % of the answers on unguarded are errors."


TRIALS = """
version: 1
listen: {traffic: 127.0.0.1:0, ops: 127.0.0.1:0, admin: 127.0.0.1:0}
defaults: {retry: off}
upstreams: {dead: {url: "http://127.0.0.1:9"}}
routes: [{name: all, upstream: dead, breaker: {consecutive_failures: 3, open_for: 100ms, open_max: 100ms}}]
"""


def test_why_an_outage_began_is_told_after_its_trials_have_failed(
    browser: Chrome, app: App, tmp_path: Path
) -> None:
    with sidecar(TRIALS, tmp_path) as running, page_of(browser, running) as tab:
        statuses(running, "/", 3)
        for trips in (2, 3):
            until(lambda: breaker(running, "all")["state"] == "HALF_OPEN", "it tries")
            statuses(running, "/", 1)
            assert breaker(running, "all")["trips"] == trips

        tab.until_text("#troubles", "Since then 2 trials failed, the last at ")
        card = tab.text("#troubles li")
        assert "It had seen 3 failures in a row. The first failure was: no connection." in card
        tab.until_text("#troubles", "ago: no connection.")


def test_maintenance_of_all_routes_does_not_look_like_an_outage(
    browser: Chrome, app: App, tmp_path: Path
) -> None:
    with sidecar(config(app), tmp_path) as running, page_of(browser, running) as tab:
        tab.value("document.querySelector('[data-action=maintain-all]').click()")
        tab.value("document.getElementById('ask-yes').click()")
        tab.until_text("h1", "All routes are under maintenance")

        assert ask(running.admin, "/state").json()["status"] == "unhealthy"
        assert tab.value("document.querySelector('.verdict').dataset.level") == "warn"
        assert tab.text("#message").startswith("Nothing is answered because somebody wants it so")
        assert tab.text("#troubles button") == "End maintenance"
        assert tab.text(".tools [data-action=resume-all]") == "End maintenance for all"


def test_a_breaker_is_reset_by_keyboard_alone(browser: Chrome, app: App, tmp_path: Path) -> None:
    with sidecar(config(app), tmp_path) as running, page_of(browser, running) as tab:
        fail_three_times(running)
        tab.until_text("#troubles h3", "is open")

        tab.press("Tab")
        assert tab.value("document.activeElement.innerText") == "Skip to the state"
        tab.press("Enter")
        tab.tab_to(FIRST_RESET)
        assert tab.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        tab.press("Enter")
        assert tab.text("#ask-title") == "Reset breaker database?"
        tab.press("Escape")
        assert tab.value("document.getElementById('ask').open") is False
        assert (
            tab.value(f"(e => Boolean({FIRST_RESET}))(document.activeElement)") is True
        )  # where one was before
        assert breaker(running)["state"] == "OPEN"

        tab.press("Enter")
        tab.picture(pictures(tmp_path) / "live-page-confirm.png", whole=False)
        tab.press("Enter")

        until(lambda: breaker(running)["state"] == "CLOSED", "the breaker is closed")
        tab.until_text("h1", "All is well")
        tab.until_text("#done", "Breaker database was reset.")
        tab.until("document.activeElement.id", "verdict")  # the card is gone, the focus is not nowhere


def test_a_dialog_holds_the_focus(browser: Chrome, app: App, tmp_path: Path) -> None:
    with sidecar(config(app), tmp_path) as running, page_of(browser, running) as tab:
        tab.tab_to('e.dataset.action === "open" && e.dataset.name === "database"')
        tab.press("Enter")
        assert tab.value("document.activeElement.id") == "ask-time"
        inside = set()
        for _ in range(6):
            tab.press("Tab")
            inside.add(
                tab.value("document.activeElement.closest('dialog')?.id ?? document.activeElement.tagName")
            )
        assert inside <= {"ask", "BODY"}  # the browser's own controls come between, the page behind does not

        assert tab.value("[...document.querySelectorAll('dialog[open]')].length") == 1


def test_a_breaker_is_held_open_for_as_long_as_was_said(browser: Chrome, app: App, tmp_path: Path) -> None:
    with sidecar(config(app), tmp_path) as running, page_of(browser, running) as tab:
        tab.tab_to('e.dataset.action === "open" && e.dataset.name === "database"')
        tab.press("Enter")
        tab.press("ArrowDown")  # from 5 minutes to 15
        tab.press("Tab")
        tab.press("Tab")
        assert tab.value("document.activeElement.id") == "ask-yes"
        tab.press("Enter")

        until(lambda: breaker(running)["forced"] == "open", "the breaker is held open")
        assert 800 < breaker(running)["forced_for"] <= 900
        tab.until_text("#troubles", "Held open by an operator, for another 15 min.")


def test_maintenance_begins_and_ends(browser: Chrome, app: App, tmp_path: Path) -> None:
    with sidecar(config(app), tmp_path) as running, page_of(browser, running) as tab:
        tab.value("document.querySelector('[data-action=maintain][data-name=reports]').click()")
        assert tab.value("document.activeElement.id") == "ask-time"
        tab.value("document.getElementById('ask-yes').click()")
        tab.until_text("#troubles", "Route reports is under maintenance")
        assert ask(running.traffic, "/reports/1").status == 503

        tab.value("document.querySelector('#troubles [data-action=resume]').click()")
        tab.value("document.getElementById('ask-yes').click()")
        tab.until_text("h1", "All is well")
        assert ask(running.traffic, "/reports/1").status == 404  # the application's own


def test_a_refused_reload_says_what_is_wrong_where_it_was_asked_for(
    browser: Chrome, app: App, tmp_path: Path
) -> None:
    """And a hostile text in the file stays text."""
    with sidecar(config(app), tmp_path) as running, page_of(browser, running) as tab:
        running.expects = frozenset({"config.reload_refused"})
        running.file.write_text(config(app) + '"<img src=x onerror=alert(1)>": 1\n')
        tab.value("document.querySelector('[data-action=reload]').click()")
        tab.value("document.getElementById('ask-yes').click()")

        tab.until_text("#ask-failed", "Refused, nothing was changed:")
        assert "<img src=x onerror=alert(1)>" in tab.text("#ask-failed")
        tab.errors.clear()  # the browser's note that the answer was 400
        tab.press("Escape")
        tab.until_text("#troubles", "The last configuration was refused")
        assert "<img src=x onerror=alert(1)>" in tab.text("#troubles pre")
        assert tab.value("document.images.length") == 0
        tab.press("Tab")
        assert tab.errors == []


def test_hostile_names_stay_text(browser: Chrome, app: App, tmp_path: Path) -> None:
    hostile = "/orders/<img/src=x/onerror=document.title=1><script>hacked=1</script>&lt;b&gt;"
    with sidecar(config(app), tmp_path) as running, page_of(browser, running) as tab:
        connection = http.client.HTTPConnection(running.traffic)
        connection.request("GET", hostile)
        assert connection.getresponse().status == 502
        connection.close()

        tab.until_text("#requests code", f"GET {hostile}")
        assert (
            tab.value("document.images.length + document.querySelectorAll('main script, main b').length") == 0
        )
        assert tab.value("typeof hacked") == "undefined"


def test_the_browser_itself_refuses_to_make_markup_of_a_text(
    browser: Chrome, app: App, tmp_path: Path
) -> None:
    with sidecar(config(app), tmp_path) as running, page_of(browser, running) as tab:
        got = tab.value(
            "(() => { try { document.body.innerHTML = '<b>'; return 'made'; } catch (e) { return e.name; } })()"
        )
        tab.value("0")

        assert got == "TypeError"
        assert tab.value("document.querySelectorAll('b').length") == 0
        assert any("TrustedHTML" in error for error in tab.errors)
        tab.errors.clear()


def test_the_token_is_asked_for_and_kept_in_this_tab_alone(browser: Chrome, app: App, tmp_path: Path) -> None:
    text = config(app, settings=f'token: "{TOKEN}"')
    with sidecar(text, tmp_path) as running, browser.open(f"http://{running.admin}/") as tab:
        tab.until("document.getElementById('token').open", wanted=True)
        assert tab.value("document.activeElement.id") == "token-value"
        tab.picture(pictures(tmp_path) / "live-page-token.png", whole=False)
        tab.type("not the token of this one".replace(" ", "-"))
        tab.press("Enter")
        tab.until_text("#token-failed", "That is not its token.")
        tab.type(TOKEN)
        tab.press("Enter")

        tab.until("document.body.dataset.link", "live")
        assert tab.value("document.getElementById('token').open") is False
        assert tab.value("document.getElementById('token-value').value") == ""
        assert tab.value("Object.values(sessionStorage)") == [TOKEN]
        assert tab.value("localStorage.length + document.cookie.length") == 0
        tab.value("document.querySelector('[data-action=reset-all]').click()")
        tab.value("document.getElementById('ask-yes').click()")
        tab.until_text("#done", "All breakers were reset.")
        assert all("401" in error for error in tab.errors), tab.errors


def test_a_lost_connection_is_said_and_nothing_old_is_shown_as_new(
    browser: Chrome, app: App, tmp_path: Path
) -> None:
    text = config(app, admin=free_port())
    with sidecar(text, tmp_path) as running:
        address = running.admin
        with browser.open(f"http://{address}/") as tab:
            tab.until_text("h1", "All is well")
            tab.tab_to('e.dataset.action === "maintain"')
            assert running.stop() == 0
            tab.until("document.body.dataset.link", "lost")

            assert "Connection lost since " in tab.text("#link")
            assert "how it was then, not how it is now" in tab.text("#stale")
            assert tab.text("h1") == "How it is now is not known"
            assert "?" in tab.value("document.title")
            assert (
                tab.value("[...document.querySelectorAll('button[data-action]')].every(b => b.disabled)")
                is True
            )
            assert (
                tab.value("document.activeElement.id") == "verdict"
            )  # a button that was pressed cannot keep it
            assert tab.value("getComputedStyle(document.querySelector('#routes')).filter") == "grayscale(1)"
            assert tab.value("document.getElementById('news').textContent").startswith(
                "Connection lost since"
            )
            tab.until_text("#link", "Trying again in ")
            tab.picture(pictures(tmp_path) / "live-page-lost.png", whole=False)

            with sidecar(text, tmp_path):
                tab.value("document.getElementById('retry').click()")
                tab.until("document.body.dataset.link", "live")
                tab.until_text("h1", "All is well")
                assert tab.text("#stale") == ""
                assert tab.value("document.querySelector('[data-action=reload]').disabled") is False


def connections(running: Sidecar) -> int:
    """Count those that the admin listener serves."""
    port = int(running.admin.rpartition(":")[2])
    return sum(
        each.status == psutil.CONN_ESTABLISHED and each.laddr.port == port
        for each in psutil.Process(running.pid).net_connections("tcp")
    )


HIDDEN = """
    Object.defineProperty(document, "hidden", {configurable: true, get: () => %s});
    document.dispatchEvent(new Event("visibilitychange"));
"""


def test_a_tab_that_nobody_sees_asks_for_nothing(browser: Chrome, app: App, tmp_path: Path) -> None:
    with sidecar(config(app), tmp_path) as running, page_of(browser, running) as tab:
        tab.value(HIDDEN % "true")
        tab.until("document.body.dataset.link", "paused")
        until(lambda: connections(running) == 0, "the stream has ended")
        assert "What stands here is old." in tab.text("#stale")

        tab.value(HIDDEN % "false")
        tab.until("document.body.dataset.link", "live")
        assert tab.text("#stale") == ""


def many(app: App, number: int) -> str:
    routes = "".join(
        f"  - {{name: route-{each:02}, match: {{path: /{each}/**}}, upstream: app, breaker: {{consecutive_failures: 5}},"
        " bulkhead: {max_concurrent: 10}}\n"
        for each in range(number - 1)
    )
    head, _, own = config(app).partition("routes:\n")
    orders = own.splitlines()[0]
    return f"{head}routes:\n{routes}{orders}\n"


COUNT_WHAT_IS_MADE = """
    globalThis.made = 0;
    new MutationObserver(all => {
        for (const each of all) for (const node of each.addedNodes) made += node.nodeType === 1;
    }).observe(document.querySelector("main"), {childList: true, subtree: true});
"""


def test_fifty_routes_cost_little_and_are_changed_where_they_stand(
    browser: Chrome, app: App, tmp_path: Path
) -> None:
    with sidecar(many(app, 50), tmp_path) as running, page_of(browser, running) as tab:
        assert tab.value("document.querySelectorAll('#routes tbody').length") == 50
        tab.value(COUNT_WHAT_IS_MADE)
        process = psutil.Process(running.pid)
        used, uptime = sum(process.cpu_times()[:2]), tab.text("#fact-uptime")
        for each in range(10):
            ask(running.traffic, f"/{each}/x")
        pause(4)
        share = (sum(process.cpu_times()[:2]) - used) / 4

        assert tab.text("#fact-uptime") != uptime
        tab.until_text("#routes tbody .outcome", "All answered")
        assert tab.value("made") == 0
        assert share < 0.05, f"{share:.1%} of a core"


def test_the_filter_and_only_what_is_not_well(browser: Chrome, app: App, tmp_path: Path) -> None:
    with sidecar(many(app, 50), tmp_path) as running, page_of(browser, running) as tab:
        tab.tab_to('e.id === "filter"')
        tab.type("route-3")
        tab.until_text("#routes h2", "10 of 50")
        assert (
            tab.value("[...document.querySelectorAll('#routes tbody')].filter(e => !e.hidden).length") == 10
        )
        assert tab.text("#upstreams .none") == "None of these."

        tab.value(
            "const f = document.getElementById('filter'); f.value = ''; f.dispatchEvent(new Event('input'))"
        )
        fail_three_times(running)
        tab.until_text("#troubles", "Breaker database is open")
        tab.tab_to('e.id === "only"')
        tab.press(" ")
        tab.until_text("#routes h2", "1 of 50")
        assert tab.text("#breakers h2") == "Breakers 1 of 50"


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_light_and_dark(browser: Chrome, app: App, tmp_path: Path, scheme: str, *, dark: bool) -> None:
    with sidecar(config(app), tmp_path) as running, page_of(browser, running) as tab:
        fail_three_times(running)
        tab.media(prefers_color_scheme=scheme)
        tab.until_text("#troubles", "Breaker database is open")
        brightness = tab.value(
            "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).reduce((sum, each) => sum + +each, 0) / 3"
        )
        tab.size(1280, 900)
        picture = tab.picture(pictures(tmp_path) / f"live-page-{scheme}.png", whole=False)

        assert (brightness < 60) is dark
        assert (brightness > 200) is not dark
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_on_a_phone_nothing_is_cut_off(browser: Chrome, app: App, tmp_path: Path) -> None:
    with sidecar(config(app), tmp_path) as running, page_of(browser, running) as tab:
        fail_three_times(running)
        tab.until_text("#troubles", "Breaker database is open")
        tab.size(360, 740)
        tab.picture(pictures(tmp_path) / "live-page-phone.png", whole=False)

        assert tab.value("document.documentElement.scrollWidth") <= 360
        beyond = tab.value(
            "[...document.querySelectorAll('main *, dialog *')].filter(e => e.getBoundingClientRect().right > 361"
            " && !e.closest('.unseen')).length"
        )
        assert beyond == 0
        small = tab.value(
            "[...document.querySelectorAll('main button')].filter(e => e.offsetHeight && e.offsetHeight < 24).length"
        )
        assert small == 0  # WCAG 2.2, 2.5.8


def test_every_stop_of_the_keyboard_shows_where_it_is(browser: Chrome, app: App, tmp_path: Path) -> None:
    with sidecar(config(app), tmp_path) as running, page_of(browser, running) as tab:
        seen: list[str] = []
        unmarked: list[str] = []
        for _ in range(80):
            tab.press("Tab")
            what, outline = tab.value(
                "(e => [e.id || e.dataset.action || e.innerText, getComputedStyle(e).outlineStyle])"
                "(document.activeElement)"
            )
            if tab.value("document.activeElement === document.body"):
                break
            seen.append(what)
            if outline == "none":
                unmarked.append(what)

        assert unmarked == []
        assert seen[0] == "Skip to the state"
        wanted = [
            "filter",
            "only",
            "reset-all",
            "maintain-all",
            "reload",
            "maintain",
            "reset",
            "open",
            "close",
        ]
        assert [seen.index(each) for each in wanted] == sorted(seen.index(each) for each in wanted)


def test_nothing_moves_for_who_wants_no_motion(browser: Chrome, app: App, tmp_path: Path) -> None:
    with sidecar(config(app), tmp_path) as running, page_of(browser, running) as tab:
        tab.media(prefers_reduced_motion="reduce")
        for each in range(10):
            ask(running.traffic, f"/reports/{each}")
        pause(1.5)

        assert tab.value("document.getAnimations().length") == 0
