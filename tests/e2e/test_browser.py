"""A headless browser, which is what most people see the sidecar through."""

import subprocess
from pathlib import Path

from .kit import App, Sidecar, config, need, sidecar

QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
    "--no-proxy-server",
)


def chromium(folder: Path, *args: str) -> str:
    """Run the browser with a new profile; give what it wrote to stdout."""
    done = subprocess.run(
        [need("chromium"), *QUIET, f"--user-data-dir={folder / 'profile'}", *args],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_page_with_a_picture_and_requests_of_its_own(app: App, proxy: Sidecar, tmp_path: Path) -> None:
    """The picture has its width, the fetched text is there, and what was posted has come back."""
    shown = chromium(tmp_path, "--virtual-time-budget=10000", "--dump-dom", f"{proxy.url}/page")

    assert 'alt="width 3"' in shown
    assert ">fetched hello<" in shown
    assert ">posted this<" in shown


def test_our_error_page(tmp_path: Path) -> None:
    """A browser gets a page that says what happened and which request it was, as text."""
    picture = tmp_path / "error.png"
    with sidecar(config("http://127.0.0.1:9"), tmp_path) as proxy:
        shown = chromium(tmp_path, f"--screenshot={picture}", "--dump-dom", f"{proxy.url}/orders")

    assert "<h1>Bad Gateway</h1>" in shown
    assert "upstream_connect" in shown
    assert "127.0.0.1" not in shown
    assert picture.read_bytes().startswith(b"\x89PNG")
