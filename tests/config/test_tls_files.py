"""TLS files that hold something else are found by `sidecar check`, each at its line, before anything is started."""

import subprocess
from pathlib import Path

import pytest

from sidecar.config.load import load_text
from sidecar.errors import ConfigError
from tests.config.certificates import write_certificates


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Two certificates with their keys and authorities, and what is none of these."""
    write_certificates(tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "ca.pem")
    write_certificates(tmp_path / "other.pem", tmp_path / "other_key.pem")
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("-----BEGIN CERTIFICATE-----\nbm90aGluZw==\n-----END CERTIFICATE-----\n")
    (tmp_path / "both.pem").write_text(
        (tmp_path / "cert.pem").read_text() + (tmp_path / "key.pem").read_text()
    )
    return tmp_path


def problems(listen: str, upstream: str, base: Path) -> list[str]:
    text = f"""\
version: 1
listen:
  tls: {{{listen}}}
upstreams:
  a:
    url: https://127.0.0.1
    tls: {{{upstream}}}
routes: [{{name: r, upstream: a}}]
"""
    try:
        load_text(text, name="f", env={}, base=base)
    except ConfigError as refusal:
        return refusal.problems
    return []


def test_right_files_are_let_pass(files: Path) -> None:
    listen = "certificate: cert.pem, key: key.pem, client_ca: ca.pem"

    assert problems(listen, "ca: ca.pem, certificate: other.pem, key: other_key.pem", files) == []
    assert problems("certificate: both.pem, key: both.pem", "ca: both.pem", files) == []


def test_a_key_of_another_certificate_is_found(files: Path) -> None:
    assert problems(
        "certificate: cert.pem, key: other_key.pem", "certificate: other.pem, key: key.pem", files
    ) == [
        "f:3:37: listen.tls.key: is not the key of `certificate` (line 3)",
        "f:7:40: upstreams.a.tls.key: is not the key of `certificate` (line 7)",
    ]


@pytest.mark.parametrize("wrong", ["empty", "text", "key.pem"])
def test_a_file_without_a_certificate_is_found(wrong: str, files: Path) -> None:
    tls = f"certificate: {wrong}, key: key.pem, client_ca: {wrong}"

    assert problems(tls, f"ca: {wrong}", files) == [
        "f:3:22: listen.tls.certificate: holds no certificate in PEM form",
        f"f:3:{49 + len(wrong)}: listen.tls.client_ca: holds no certificate in PEM form",
        "f:7:15: upstreams.a.tls.ca: holds no certificate in PEM form",
    ]


@pytest.mark.parametrize("wrong", ["empty", "text", "cert.pem"])
def test_a_file_without_a_key_is_found(wrong: str, files: Path) -> None:
    assert problems(f"certificate: cert.pem, key: {wrong}", "verify: true", files) == [
        "f:3:37: listen.tls.key: holds no private key in PEM form"
    ]


def test_an_encrypted_key_is_found_and_nobody_is_asked_for_its_passphrase(files: Path) -> None:
    subprocess.run(
        ["openssl", "pkcs8", "-topk8", "-in", "key.pem", "-out", "locked.pem", "-passout", "pass:hunter2"],
        cwd=files,
        check=True,
        capture_output=True,
    )

    assert problems("certificate: cert.pem, key: locked.pem", "verify: true", files) == [
        "f:3:37: listen.tls.key: is encrypted, and nobody is there to give its passphrase"
    ]


def test_of_files_that_cannot_be_read_nothing_more_is_said(files: Path) -> None:
    found = problems("certificate: missing, key: key.pem", "ca: 5", files)

    assert [problem.split(" (`")[0] for problem in found] == [
        "f:3:22: listen.tls.certificate: cannot be read: No such file or directory",
        "f:7:15: upstreams.a.tls.ca: must be text, not `5`; put it in quotes",
    ]
