# SPDX-License-Identifier: Apache-2.0
"""A certificate authority for tests, and a certificate of the loopback interface."""

from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Certificates:
    """PEM files. The certificate is good for servers and for clients; its key is not encrypted."""

    authority: Path
    certificate: Path
    key: Path


def make_certificates(directory: Path) -> Certificates:
    """Make an authority of its own and a certificate for localhost and 127.0.0.1."""
    files = Certificates(directory / "ca.pem", directory / "certificate.pem", directory / "key.pem")
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(files.authority)
    issued.private_key_pem.write_to_path(files.key)
    for pem in issued.cert_chain_pems:
        pem.write_to_path(files.certificate, append=True)
    return files
