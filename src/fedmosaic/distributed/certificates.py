"""Make the certificates of a federation's authority and server, and check that they are valid."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedmosaic.errors import ConfigError
from fedmosaic.files import write_new

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

ALWAYS = ("localhost", "127.0.0.1")
# The clock of another machine may be behind.
VALID_BEFORE = datetime.timedelta(days=2)


def create_authority(folder: Path, days: int) -> None:
    """Write ``ca.key`` and ``ca.crt``: the authority that signs the server's certificate."""
    from cryptography import x509

    key, name = _new_key(), _name("fedmosaic authority")
    builder = _builder(name, name, key.public_key(), days)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(sign_certificates=True), critical=True)
    builder = builder.add_extension(
        x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
    )
    write_new(folder / "ca.key", _private_bytes(key), private=True)
    write_new(folder / "ca.crt", _signed(builder, key))


def create_server(folder: Path, hosts: Sequence[str], days: int) -> None:
    """Write ``server.key`` and ``server.crt``, signed by the authority in the folder.

    Args:
        folder: has ``ca.key`` and ``ca.crt``.
        hosts: names and addresses by which clients reach the server.
        days: how long the certificate is valid.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    signer: Any = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
    authority = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
    key = _new_key()
    names = [_host(host) for host in dict.fromkeys([*ALWAYS, *hosts])]
    builder = _builder(_name("fedmosaic server"), authority.subject, key.public_key(), days)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
    builder = builder.add_extension(_usage(sign_certificates=False), critical=True)
    builder = builder.add_extension(
        x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
    )
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
    )
    write_new(folder / "server.key", _private_bytes(key), private=True)
    write_new(folder / "server.crt", _signed(builder, signer))


def require_valid(path: Path) -> None:
    """Check that a certificate is one, and valid now.

    Raises:
        ConfigError: it is not; the message says since or until when.
    """
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError as error:
        raise ConfigError(f"{path} holds no certificate: {error}") from error
    now = datetime.datetime.now(datetime.UTC)
    here = f"this machine's clock says {now:%Y-%m-%d %H:%M} UTC"
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now > last:
        raise ConfigError(
            f"{path} expired on {last:%Y-%m-%d}, and {here}: make new keys with `fedmosaic keys`"
        )
    if now < first:
        raise ConfigError(
            f"{path} is valid from {first:%Y-%m-%d}, but {here}: set the clock of this machine"
        )


def _builder(subject: x509.Name, issuer: x509.Name, public: Any, days: int) -> Any:
    from cryptography import x509

    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - VALID_BEFORE)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _host(host: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host.encode("idna").decode())
    except ValueError as error:
        raise ConfigError(f"--host {host!r} is neither a name nor an address") from error


def _name(text: str) -> x509.Name:
    from cryptography import x509

    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _usage(sign_certificates: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _new_key() -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP384R1())


def _private_bytes(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives import serialization

    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return bytes(key.private_bytes(*form, serialization.NoEncryption()))


def _signed(builder: Any, key: Any) -> bytes:
    from cryptography.hazmat.primitives import hashes, serialization

    certificate = builder.sign(key, hashes.SHA256())
    return bytes(certificate.public_bytes(serialization.Encoding.PEM))
