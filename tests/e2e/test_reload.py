"""A real process is given another configuration: nobody's request is lost, and a bad file changes nothing."""

import asyncio
import http.client
import signal
import ssl
import threading
from collections import Counter
from pathlib import Path
from time import monotonic

import aiohttp
import pytest
import trustme

from .kit import Answer, App, Sidecar, arguments, ask, config, pause, sidecar, until

RELOADED = "sidecar_config_last_reload_successful"


def with_header_limit(app: App, fields: int) -> str:
    return config(app.url, more=f"limits: {{fields: {fields}}}")


def reload_and_wait(running: Sidecar, text: str | None = None, *, event: str = "config.reloaded") -> None:
    """Write another configuration, send SIGHUP, and wait until the log says what came of it."""
    before = len(running.events(event))
    if text is not None:
        running.file.write_text(text)
    running.send(signal.SIGHUP)
    until(lambda: len(running.events(event)) > before, f"{event}\n{running.said}")


def many_fields(running: Sidecar, number: int) -> Answer:
    return ask(running.traffic, "/hello", headers={f"X-{n}": "1" for n in range(number)})


def test_what_the_new_file_says_holds_from_the_next_request_on(app: App, tmp_path: Path) -> None:
    with sidecar(with_header_limit(app, 100), tmp_path) as running:
        kept = http.client.HTTPConnection(running.traffic, timeout=10)
        fields = {f"X-{n}": "1" for n in range(30)}
        kept.request("GET", "/hello", headers=fields)
        answer = kept.getresponse()
        answer.read()
        assert answer.status == 200

        reload_and_wait(running, with_header_limit(app, 20))
        kept.request("GET", "/hello", headers=fields)

        assert kept.getresponse().status == 431
        assert running.metrics()[RELOADED] == 1
        kept.close()


def test_a_bad_file_is_refused_with_its_lines_and_the_old_one_goes_on(app: App, tmp_path: Path) -> None:
    with sidecar(with_header_limit(app, 100), tmp_path) as running:
        running.expects = frozenset({"config.reload_refused"})
        good = running.file.read_text()

        reload_and_wait(running, good + "timeout_total: 3\n", event="config.reload_refused")

        (problem,) = running.events("config.reload_refused")[0]["problems"]
        assert problem.startswith(f"{running.file}:6:1: timeout_total: ")
        assert many_fields(running, 30).status == 200
        assert running.metrics()[RELOADED] == 0

        reload_and_wait(running, good)
        assert running.metrics()[RELOADED] == 1


def test_another_address_is_refused_rather_than_ignored(app: App, tmp_path: Path) -> None:
    with sidecar(config(app.url), tmp_path) as running:
        running.expects = frozenset({"config.reload_refused"})

        reload_and_wait(
            running,
            running.file.read_text().replace("ops: 127.0.0.1:0", "ops: 127.0.0.2:0"),
            event="config.reload_refused",
        )

        (problem,) = running.events("config.reload_refused")[0]["problems"]
        assert "listen.ops: cannot change while the sidecar runs" in problem
        assert ask(running.ops, "/health/ready").status == 200


def test_no_request_is_lost_while_the_configuration_changes_under_load(app: App, tmp_path: Path) -> None:
    with sidecar(with_header_limit(app, 100), tmp_path) as running:
        seen: Counter[object] = Counter()
        over = threading.Event()

        def load() -> None:
            connection = http.client.HTTPConnection(running.traffic, timeout=10)
            while not over.is_set():
                try:
                    connection.request("GET", "/hello")
                    answer = connection.getresponse()
                    answer.read()
                    seen[answer.status] += 1
                except (OSError, http.client.HTTPException) as error:
                    seen[repr(error)] += 1
                    connection.close()
            connection.close()

        threads = [threading.Thread(target=load) for _ in range(8)]
        for thread in threads:
            thread.start()
        for turn in range(10):
            url = app.url if turn % 2 else app.url.replace("127.0.0.1", "localhost")
            reload_and_wait(running, config(url, more=f"limits: {{fields: {50 + turn}}}"))
        over.set()
        for thread in threads:
            thread.join()

        assert set(seen) == {200}
        assert seen[200] > 100
        total = sum(
            value for name, value in running.metrics().items() if name.startswith("sidecar_requests_total")
        )
        assert total == seen[200]


async def test_streams_and_websockets_are_not_cut(app: App, tmp_path: Path) -> None:
    with sidecar(config(app.url), tmp_path) as running:
        async with aiohttp.ClientSession() as session:
            async with session.ws_connect(f"{running.url}/ws") as socket:
                await socket.send_str("before")
                assert await socket.receive_str(timeout=10) == "before"

                text = config(app.url.replace("127.0.0.1", "localhost"))
                await asyncio.to_thread(reload_and_wait, running, text)

                await socket.send_str("after")
                assert await socket.receive_str(timeout=10) == "after"
            async with session.get(f"{running.url}/hello") as answer:
                assert answer.status == 200


def test_a_request_under_way_ends_under_the_policy_it_began_with(app: App, tmp_path: Path) -> None:
    with sidecar(
        config(app.url, route="timeout: {attempt: 20s, total: 20s}, retry: off"), tmp_path
    ) as running:
        answers: list[Answer] = []
        thread = threading.Thread(target=lambda: answers.append(ask(running.traffic, "/held/reload")))
        thread.start()
        app.wait_for("reload", arrived=1)

        reload_and_wait(running, config(app.url, route="timeout: {attempt: 10ms, total: 10ms}, retry: off"))
        pause(0.1)
        app.open("reload")
        thread.join()

        assert [answer.status for answer in answers] == [200]


def test_a_file_behind_links_that_are_exchanged_is_noticed(app: App, tmp_path: Path) -> None:
    """As Kubernetes mounts a ConfigMap: sidecar.yaml -> ..data/sidecar.yaml, and `..data` is exchanged."""
    mount = tmp_path / "mount"
    for number, fields in ((1, 100), (2, 20)):
        (mount / f"..{number}").mkdir(parents=True)
        text = with_header_limit(app, fields) + "reload: {watch: true}\n"
        (mount / f"..{number}" / "sidecar.yaml").write_text(text)
    (mount / "..data").symlink_to("..1")
    (mount / "sidecar.yaml").symlink_to("..data/sidecar.yaml")

    def exchange(target: str) -> None:
        (mount / "..new").symlink_to(target)
        (mount / "..new").replace(mount / "..data")

    with Sidecar([*arguments("", tmp_path)[:-1], str(mount / "sidecar.yaml")]) as running:
        running.take_addresses(running.first_json("traffic"))
        until(lambda: running.events("config.watching"), "a watch")
        assert many_fields(running, 30).status == 200

        exchange("..2")

        until(lambda: running.events("config.reloaded"), f"a reload\n{running.said}")
        assert many_fields(running, 30).status == 431
        assert running.stop() == 0
    running.check_output()


@pytest.mark.parametrize("uvloop", [True, False])
def test_a_renewed_certificate_is_shown_without_a_connection_lost(
    app: App, tmp_path: Path, *, uvloop: bool
) -> None:
    certificate, key = tmp_path / "server.pem", tmp_path / "server.key"

    def issue() -> trustme.CA:
        ca = trustme.CA()
        made = ca.issue_cert("127.0.0.1")
        certificate.write_bytes(b"".join(part.bytes() for part in made.cert_chain_pems))
        key.write_bytes(made.private_key_pem.bytes())
        return ca

    def get(running: Sidecar, ca: trustme.CA) -> int:
        context = ssl.create_default_context(cadata=ca.cert_pem.bytes().decode())
        host, _, port = running.traffic.rpartition(":")
        connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=10)
        try:
            connection.request("GET", "/hello")
            return connection.getresponse().status
        finally:
            connection.close()

    first = issue()
    listen = f"tls: {{certificate: '{certificate}', key: '{key}'}}"
    with sidecar(config(app.url, listen=listen), tmp_path, uvloop=uvloop) as running:
        context = ssl.create_default_context(cadata=first.cert_pem.bytes().decode())
        host, _, port = running.traffic.rpartition(":")
        kept = http.client.HTTPSConnection(host, int(port), context=context, timeout=10)
        kept.request("GET", "/hello")
        assert kept.getresponse().read() is not None

        second = issue()
        reload_and_wait(running)

        assert get(running, second) == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            get(running, first)
        kept.request("GET", "/hello")
        assert kept.getresponse().status == 200
        kept.close()


def test_a_reload_is_over_within_a_moment(app: App, tmp_path: Path) -> None:
    with sidecar(config(app.url), tmp_path) as running:
        began = monotonic()
        reload_and_wait(running)
        assert monotonic() - began < 5
