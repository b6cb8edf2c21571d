"""A headless browser that a test drives over the DevTools protocol: click, type, press keys, look, take pictures.

    with chrome(folder) as browser, browser.open("http://127.0.0.1:9901/") as tab:
        tab.until("document.title", "All is well")
        tab.press("Tab")

Whatever the page logs as an error (an exception, a breach of its Content-Security-Policy) is in `Tab.errors`, and what it
asked for in `Tab.requests`.
"""

import base64
import json
import os
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from .kit import WITHIN, Child, need, pause, until

QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
    *("--no-proxy-server", "--hide-scrollbars", "--remote-debugging-port=0"),
)

# Virtual key codes, which a key press needs to have its default effect.
KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "ArrowDown": 40, "ArrowUp": 38}

_LONGEST = 64 << 20  # bytes of one answer: a picture


class Tab:
    """One page."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._number = 0
        self.errors: list[str] = []
        self.requests: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.do(f"{domain}.enable")

    def do(self, method: str, **params: Any) -> dict[str, Any]:
        """Send one command and give its result."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            said = json.loads(self._socket.recv(timeout=WITHIN))
            if said.get("id") == self._number:
                assert "error" not in said, said["error"]
                result: dict[str, Any] = said["result"]
                return result
            self._note(said)

    def _note(self, said: dict[str, Any]) -> None:
        params = said.get("params", {})
        if said.get("method") == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif said.get("method") == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]))
        elif said.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}".strip())

    def go(self, url: str) -> None:
        self.do("Page.navigate", url=url)
        self.until("document.readyState", "complete")

    def value(self, expression: str) -> Any:
        """Give the value of a JavaScript expression; a promise is awaited."""
        got = self.do("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in got, got["exceptionDetails"]
        return got["result"].get("value")

    def text(self, selector: str) -> str:
        """Give what a reader sees of an element; "" if there is none, or it is hidden."""
        found: str = self.value(_seen(selector))
        return found

    def until(self, expression: str, wanted: Any, within: float = WITHIN) -> None:
        """Wait until an expression has a value, or holds a text."""
        deadline = monotonic() + within
        got = self.value(expression)
        while not (wanted in got if isinstance(got, str) and isinstance(wanted, str) else got == wanted):
            if monotonic() > deadline:
                pytest.fail(f"{expression} is {got!r}, not {wanted!r}, after {within:g} s; {self.errors}")
            pause(0.05)
            got = self.value(expression)

    def until_text(self, selector: str, wanted: str, within: float = WITHIN) -> None:
        """Wait until an element shows a text."""
        self.until(_seen(selector), wanted, within)

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press a key as a hand would."""
        code = KEYS[key]
        common: dict[str, Any] = {"key": key, "windowsVirtualKeyCode": code, "modifiers": 8 if shift else 0}
        text = {"Enter": "\r", " ": " "}.get(key)
        down = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
        self.do("Input.dispatchKeyEvent", **down, **common)
        self.do("Input.dispatchKeyEvent", type="keyUp", **common)

    def type(self, text: str) -> None:
        self.do("Input.insertText", text=text)

    def tab_to(self, matches: str, most: int = 400) -> None:
        """Press Tab until the focused element (`e`) matches an expression."""
        for _ in range(most):
            self.press("Tab")
            if self.value(f"(e => Boolean({matches}))(document.activeElement)"):
                return
        pytest.fail(f"no element with {matches} has the focus after {most} times Tab")

    def media(self, **features: str) -> None:
        """Emulate what a person has set, as in `prefers_color_scheme="dark"`."""
        listed = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.do("Emulation.setEmulatedMedia", features=listed)

    def size(self, width: int, height: int) -> None:
        self.do(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def picture(self, file: Path, *, whole: bool = True) -> Path:
        """Save what there is to see."""
        got = self.do("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(got["data"]))
        return file


def _seen(selector: str) -> str:
    """Give the expression for what is to be read in an element; spaces that do not break are spaces."""
    what = 'e !== null && e.checkVisibility() ? e.innerText.replaceAll("\\u00a0", " ") : ""'
    return f"(e => {what})(document.querySelector({json.dumps(selector)}))"


class Chrome:
    """The browser."""

    def __init__(self, address: str) -> None:
        self._address = address

    @contextmanager
    def open(self, url: str) -> Iterator[Tab]:
        """Open a page until the block ends."""
        made = urllib.request.Request(f"http://{self._address}/json/new?about:blank", method="PUT")
        with urllib.request.urlopen(made, timeout=WITHIN) as answer:
            target = json.load(answer)
        url_of_target = target["webSocketDebuggerUrl"]
        with connect(url_of_target, max_size=_LONGEST, open_timeout=WITHIN) as socket:
            tab = Tab(socket)
            try:
                tab.go(url)
                yield tab
            finally:
                tab.do("Page.close")


@contextmanager
def chrome(folder: Path) -> Iterator[Chrome]:
    """Run a browser with a profile of its own in `folder` until the block ends."""
    profile = folder / "chrome"
    args = [need("chromium"), *QUIET, f"--user-data-dir={profile}", "about:blank"]
    with Child(args, env={"HOME": str(folder)}) as child:
        yield Chrome(until(_address(profile, child), "the port of the browser"))


def _address(profile: Path, child: Child) -> Callable[[], str]:
    file = profile / "DevToolsActivePort"

    def find() -> str:
        assert child.process.poll() is None, child.said
        port = file.read_text().partition("\n")[0] if file.exists() else ""
        return f"127.0.0.1:{port}" if port else ""

    return find


def pictures(fallback: Path) -> Path:
    """Give where pictures are kept: the folder that SIDECAR_TEST_PICTURES names, else `fallback`."""
    folder = Path(os.environ.get("SIDECAR_TEST_PICTURES") or fallback)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
