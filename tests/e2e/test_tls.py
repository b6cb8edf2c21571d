"""TLS on both sides, with certificates of authorities that only the test knows."""

import json
import ssl
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from .kit import Answer, App, Sidecar, application, ask, config, dial, sidecar
from .pattern import BLOCK
from .programs import curl, run_curl


@dataclass(frozen=True)
class Files:
    """Names of files in PEM form."""

    ca: str
    certificate: str
    key: str
    strangers_ca: str
    client: str
    client_key: str
    stranger: str
    stranger_key: str


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A server's certificate for 127.0.0.1, a client's, and those of an authority that nobody trusts."""
    folder = tmp_path_factory.mktemp("tls")
    ca, strangers = trustme.CA(), trustme.CA()

    def write(name: str, *parts: trustme.Blob) -> str:
        (folder / name).write_bytes(b"".join(part.bytes() for part in parts))
        return str(folder / name)

    server = ca.issue_cert("127.0.0.1", "localhost")
    client = ca.issue_cert("client.example")
    stranger = strangers.issue_cert("127.0.0.1")
    return Files(
        ca=write("ca.pem", ca.cert_pem),
        certificate=write("server.pem", *server.cert_chain_pems),
        key=write("server.key", server.private_key_pem),
        strangers_ca=write("strangers.pem", strangers.cert_pem),
        client=write("client.pem", *client.cert_chain_pems),
        client_key=write("client.key", client.private_key_pem),
        stranger=write("stranger.pem", *stranger.cert_chain_pems),
        stranger_key=write("stranger.key", stranger.private_key_pem),
    )


def listen(files: Files, more: str = "") -> str:
    return f"tls: {{certificate: {files.certificate}, key: {files.key}, {more}}}"


@pytest.fixture(scope="module")
def front(app: App, files: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A sidecar with TLS on its traffic listener."""
    text = config(app.url, listen=listen(files), more="limits: {head_timeout: 1s}")
    with sidecar(text, tmp_path_factory.mktemp("front")) as running:
        yield running


@pytest.fixture(scope="module")
def mutual(app: App, files: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A sidecar that lets in only clients with a certificate."""
    text = config(app.url, listen=listen(files, f"client_ca: {files.ca}"))
    with sidecar(text, tmp_path_factory.mktemp("mutual")) as running:
        yield running


@pytest.fixture(scope="module")
def tls_app(files: Files) -> Iterator[App]:
    """The upstream, under TLS."""
    with application("--certificate", files.certificate, "--key", files.key) as running:
        yield running


def test_listener(front: Sidecar, files: Files) -> None:
    """A client that trusts the authority is served, in HTTP/1.1 whatever else it offers, and counts as https."""
    done = run_curl("--verbose", "--http2", "--cacert", files.ca, f"https://{front.traffic}/what")

    assert "ALPN: server accepted http/1.1" in done.stderr.decode()
    assert ["X-Forwarded-Proto", "https"] in json.loads(done.stdout)["fields"]


def test_listener_with_a_certificate_that_the_client_does_not_trust(front: Sidecar, files: Files) -> None:
    done = run_curl("--cacert", files.strangers_ca, f"https://{front.traffic}/what")

    assert done.returncode == 60  # curl's number for a certificate that it does not trust


def test_plain_http_to_the_tls_port(front: Sidecar, files: Files) -> None:
    """It gets no answer from the upstream, and the next client is served."""
    with dial(front.traffic) as client:
        client.sendall(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"hello" not in client.recv(65536)

    assert curl("--cacert", files.ca, f"https://{front.traffic}/hello") == b"hello"


def test_a_client_that_never_begins_its_handshake(front: Sidecar) -> None:
    """It is let go after `head_timeout`, as one that never sends a head."""
    with dial(front.traffic) as client:
        client.settimeout(10)
        assert client.recv(65536) == b""


def test_old_versions_of_tls_are_refused(front: Sidecar, files: Files) -> None:
    done = run_curl("--tlsv1.0", "--tls-max", "1.1", "--cacert", files.ca, f"https://{front.traffic}/hello")

    assert done.returncode == 35  # curl's number for a failed handshake


def test_bodies_pass_whole(front: Sidecar, files: Files, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(BLOCK * 24)

    for path in ("echo", "upload/tls"):
        got = curl(
            "--cacert", files.ca, "--data-binary", f"@{tmp_path / 'file'}", f"https://{front.traffic}/{path}"
        )
        assert got == (BLOCK * 24 if path == "echo" else b'{"bytes": 25165824, "right": true}')


def test_websocket_over_tls(front: Sidecar, files: Files) -> None:
    """A binary message of 1 MiB comes back through the tunnel."""
    context = ssl.create_default_context(cafile=files.ca)
    size = struct.pack("!Q", len(BLOCK))
    with (
        dial(front.traffic) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as client,
        client.makefile("rb") as answers,
    ):
        client.sendall(
            b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert b"".join(iter(answers.readline, b"\r\n")).startswith(b"HTTP/1.1 101 ")
        for _ in range(3):
            client.sendall(b"\x82\xff" + size + b"\0\0\0\0" + BLOCK)  # RFC 6455 §5.2, masked with zeros
            assert answers.read(10 + len(BLOCK)) == b"\x82\x7f" + size + BLOCK


def test_mutual_tls_with_a_certificate(mutual: Sidecar, files: Files) -> None:
    shown = ("--cert", files.client, "--key", files.client_key)

    assert curl("--cacert", files.ca, *shown, f"https://{mutual.traffic}/hello") == b"hello"


def test_mutual_tls_without_a_certificate(mutual: Sidecar, files: Files) -> None:
    done = run_curl("--cacert", files.ca, f"https://{mutual.traffic}/hello")

    assert (done.returncode != 0, done.stdout) == (True, b"")
    assert mutual.metrics()["sidecar_client_connections"] == 0


def test_mutual_tls_with_a_stranger_s_certificate(mutual: Sidecar, files: Files) -> None:
    shown = ("--cert", files.stranger, "--key", files.stranger_key)
    done = run_curl("--cacert", files.ca, *shown, f"https://{mutual.traffic}/hello")

    assert (done.returncode != 0, done.stdout) == (True, b"")


@pytest.fixture(scope="module")
def strict_app(files: Files) -> Iterator[App]:
    """The upstream, under TLS, for clients with a certificate only."""
    options = ("--certificate", files.certificate, "--key", files.key, "--client-ca", files.ca)
    with application(*options) as running:
        yield running


@pytest.fixture(scope="module")
def behind(
    app: App, tls_app: App, strict_app: App, files: Files, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sidecar]:
    """A sidecar with many upstreams; the request field `X-To` names the one to take."""
    tls, strict, ca = f"https://{tls_app.address}", f"https://{strict_app.address}", f"ca: {files.ca}"
    upstreams = {
        "trusted": (tls, ca),
        "known-to-nobody": (tls, ""),
        "of-strangers": (tls, f"ca: {files.strangers_ca}"),
        "unverified": (tls, "verify: false"),
        "other-name": (tls, f"{ca}, server_name: localhost"),
        "wrong-name": (tls, f"{ca}, server_name: elsewhere.example"),
        "certificate": (strict, f"{ca}, certificate: {files.client}, key: {files.client_key}"),
        "no-certificate": (strict, ca),
        "no-tls": (f"https://{app.address}", ca),
        "unexpected-tls": (f"http://{tls_app.address}", None),
    }
    text = "version: 1\nlisten: {traffic: 127.0.0.1:0, ops: 127.0.0.1:0, admin: 127.0.0.1:0}\nupstreams:\n"
    for name, (url, settings) in upstreams.items():
        text += f"  {name}: {{url: '{url}'" + ("" if settings is None else f", tls: {{{settings}}}") + "}\n"
    text += "routes:\n"
    for name in upstreams:
        text += f"  - {{name: {name}, upstream: {name}, match: {{headers: {{X-To: {name}}}}}}}\n"
    with sidecar(text, tmp_path_factory.mktemp("behind")) as running:
        yield running


def hello(proxy: Sidecar, upstream: str) -> Answer:
    return ask(proxy.traffic, "/hello", headers={"X-To": upstream})


def test_upstream_verified(behind: Sidecar) -> None:
    """Bodies pass whole both ways, and the connection is kept."""
    to = {"X-To": "trusted"}
    answers = [ask(behind.traffic, "/echo", method="POST", body=BLOCK * 8, headers=to) for _ in range(3)]

    assert [(answer.status, answer.body == BLOCK * 8) for answer in answers] == [(200, True)] * 3
    assert behind.metrics()['sidecar_upstream_connections{state="idle",upstream="trusted"}'] == 1


@pytest.mark.parametrize("upstream", ["known-to-nobody", "of-strangers", "wrong-name"])
def test_upstream_that_cannot_prove_who_it_is(behind: Sidecar, upstream: str) -> None:
    """Not trusted, or not of this name: nothing is sent, and the answer says that it was the certificate."""
    answer = hello(behind, upstream)

    assert (answer.status, answer.json()["code"]) == (502, "upstream_connect")
    assert answer.fields["proxy-status"] == (
        'sidecar; error=tls_certificate_error; details="upstream_connect"'
    )


@pytest.mark.parametrize("upstream", ["unverified", "other-name", "certificate"])
def test_upstream_that_is_accepted(behind: Sidecar, upstream: str) -> None:
    """Without looking where that is asked for; by the name asked for; and showing our own certificate."""
    answer = hello(behind, upstream)

    assert (answer.status, answer.body) == (200, b"hello")


@pytest.mark.parametrize("upstream", ["no-certificate", "no-tls", "unexpected-tls"])
def test_upstream_that_does_not_talk_to_us(behind: Sidecar, upstream: str) -> None:
    """It wants a certificate that we do not have, or one side speaks TLS and the other one does not: a 502."""
    assert hello(behind, upstream).status == 502


def test_tls_to_an_upstream_without(behind: Sidecar) -> None:
    answer = hello(behind, "no-tls")

    assert answer.json()["code"] == "upstream_connect"
    assert "error=tls_protocol_error;" in answer.fields["proxy-status"]


def test_tls_on_both_sides_stops_with_0(tls_app: App, files: Files, tmp_path: Path) -> None:
    """An idle TLS client is let go on SIGTERM, and a download under way arrives whole."""
    text = config(f"https://{tls_app.address}", upstream=f"tls: {{ca: {files.ca}}}", listen=listen(files))
    with sidecar(text, tmp_path) as proxy:
        size = 16 * len(BLOCK)
        got = curl("--cacert", files.ca, f"https://{proxy.traffic}/download/tls-both/{size}")
        assert proxy.stop() == 0

    assert got == BLOCK * 16
