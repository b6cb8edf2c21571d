"""TLS files for tests whose subject is not in them: they need only be right."""

from pathlib import Path

import trustme

__all__ = ["write_certificates"]


def write_certificates(certificate: Path, key: Path, *authorities: Path) -> None:
    """Write a certificate, its key, and who signed it."""
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    issued = authority.issue_cert("sidecar.example", key_type=trustme.KeyType.ECDSA)
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    for each in authorities:
        authority.cert_pem.write_to_path(each)
