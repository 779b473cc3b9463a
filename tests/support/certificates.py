"""Make certificates for servers of the tests' own: right ones, for another name, by another authority, expired ones."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Certificate:
    """Hold what a server shows and keeps, as PEM texts."""

    chain: str
    key: str


class Authority:
    """Sign certificates; ``pem`` is what those have to have who believe it."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Authority of the tests")])
        built = _begun(self._name, self._name, self._key.public_key(), datetime.now(UTC) + DAY)
        may_sign = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        built = built.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.pem = _pem(built.add_extension(may_sign, critical=True).sign(self._key, hashes.SHA256()))

    def certificate(self, *, address: str = "127.0.0.1", ends: timedelta = DAY) -> Certificate:
        """Sign a certificate for the server at an address that is valid until ``ends`` from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Server of the tests")])
        where = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        built = _begun(name, self._name, key.public_key(), datetime.now(UTC) + ends)
        signed = built.add_extension(where, critical=False).sign(self._key, hashes.SHA256())
        kept = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Certificate(_pem(signed), kept.decode())


def _begun(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, ends: datetime
) -> x509.CertificateBuilder:
    return x509.CertificateBuilder(
        issuer, subject, key, x509.random_serial_number(), datetime.now(UTC) - 10 * DAY, ends
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
