"""Who may talk to the object store: nobody on this machine without its keys.

    FOLDER (0700)  identities.json   the one user of the S3 port
                   security.toml     tokens for reads and writes behind the S3 port
                   tls.crt, tls.key  one certificate, that both ends of every port behind the
                                     S3 port must show

S3 requests are signed anyway; but behind the S3 port SeaweedFS has ports of its own, which
serve whoever asks unless they are told not to. All is made anew at each start, but for the
user's keys.
"""

import datetime
import ipaddress
import json
import os
import secrets
from pathlib import Path

from ausl_dist.files import read_json, write_atomically, write_json

ROLES = ("master", "volume", "filer", "s3", "client")
NAME = "ausl object store"
DAYS = 3650


def secure(folder: Path) -> tuple[str, str]:
    """Write what the server in `folder` needs; returns the user's access key and secret key."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    _write_certificate(folder)
    _private(folder / "security.toml", _security(folder))
    return _identities(folder / "identities.json")


def _security(folder: Path) -> str:
    """The text of security.toml, which SeaweedFS reads from the folder it is started in."""
    lines = []
    for section in ("signing", "signing.read", "filer_signing", "filer_signing.read"):
        lines += [f"[jwt.{section}]", f'key = "{secrets.token_hex(32)}"']
    certificate, key = (json.dumps(str(folder / name)) for name in ("tls.crt", "tls.key"))
    lines += ["[grpc]", f"ca = {certificate}"]
    for role in ROLES:
        lines += [f"[grpc.{role}]", f"cert = {certificate}", f"key = {key}"]
    # HTTP ports behind S3, which would tell anybody what disk and volumes there are
    for end in ("https.master", "https.filer", "https.volume", "https.client"):
        lines += [f"[{end}]", f"cert = {certificate}", f"key = {key}", f"ca = {certificate}"]
    lines += ["enabled = true"]
    return "\n".join([*lines, ""])


def _identities(path: Path) -> tuple[str, str]:
    """The server's list of users: one, with a secret of its own for each data folder."""
    if not path.exists():
        keys = {"accessKey": secrets.token_hex(8), "secretKey": secrets.token_hex(16)}
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        user = {"name": "ausl", "credentials": [keys], "actions": actions}
        write_json(path, {"identities": [user]})
        path.chmod(0o600)
    keys = read_json(path)["identities"][0]["credentials"][0]
    return keys["accessKey"], keys["secretKey"]


def _write_certificate(folder: Path) -> None:
    """One self-signed certificate for both ends of all connections, its own authority."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    usage = [x509.ExtendedKeyUsageOID.SERVER_AUTH, x509.ExtendedKeyUsageOID.CLIENT_AUTH]
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usage), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _private(folder / "tls.key", private.decode())
    _private(folder / "tls.crt", certificate.public_bytes(pem).decode())


def _private(path: Path, text: str) -> None:
    """Write a file that only its owner reads; the folder is the owner's alone already."""
    write_atomically(path, text)
    os.chmod(path, 0o600)
