"""A certificate for servers on loopback, that signs itself."""

import subprocess
from pathlib import Path

from tests.support.programs import program


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Certificate and key of 127.0.0.1, as PEM files in `folder`, good for two days."""
    openssl = program("openssl", "openssl")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    kind = ("-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    names = ("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2")
    subprocess.run(
        [openssl, "req", *kind, *names, "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return certificate, key
