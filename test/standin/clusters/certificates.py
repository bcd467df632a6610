"""Certificate authorities and certificates in files, made as the clusters' own programs make them."""

import datetime
import ipaddress
import os
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from programs import write_file

YEAR = 365
# k3s renews what has less than this left when it starts.
RENEW_BEFORE = 120


@dataclass(frozen=True)
class Pair:
    """Paths of a certificate and its key."""

    crt: str
    key: str

    @staticmethod
    def at(folder: str, name: str) -> "Pair":
        return Pair(os.path.join(folder, f"{name}.crt"), os.path.join(folder, f"{name}.key"))


def new_key_text() -> tuple[ec.EllipticCurvePrivateKey, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    return key, text


def load_key(path: str):
    with open(path, "rb") as file:
        return serialization.load_pem_private_key(file.read(), None)


def load(path: str) -> x509.Certificate:
    with open(path, "rb") as file:
        return x509.load_pem_x509_certificate(file.read())


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _name(common_name: str, organisations) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, text) for text in organisations]
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(subject: x509.Name, issuer: x509.Name, public_key, days: int) -> x509.CertificateBuilder:
    now = datetime.datetime.utcnow()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def ensure_ca(ca: Pair, common_name: str) -> None:
    """Makes an authority for ten years unless it is there."""
    if os.path.exists(ca.crt) and os.path.exists(ca.key):
        return
    key, text = new_key_text()
    subject = _name(common_name, [])
    usage = x509.KeyUsage(True, False, True, False, False, True, False, False, False)
    certificate = (
        _builder(subject, subject, key.public_key(), 10 * YEAR)
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_file(ca.key, text)
    write_file(ca.crt, pem(certificate), 0o644)


def sign(ca: Pair, public_key, common_name: str, organisations=(), names=(), days: int = YEAR) -> x509.Certificate:
    issuer = load(ca.crt)
    certificate = (
        _builder(_name(common_name, organisations), issuer.subject, public_key, days)
        .add_extension(x509.BasicConstraints(False, None), critical=True)
        .add_extension(x509.KeyUsage(True, False, True, False, False, False, False, False, False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
    )
    if names:
        certificate = certificate.add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), False)
    return certificate.sign(load_key(ca.key), hashes.SHA256())


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def ensure_certificate(pair: Pair, ca: Pair, common_name: str, organisations=(), names=(), days: int = YEAR) -> None:
    """Makes a certificate unless there is one of this authority, with these names, that lasts long enough."""
    names = list(dict.fromkeys(names))
    if os.path.exists(pair.crt) and os.path.exists(pair.key) and _still_good(pair.crt, ca, names):
        return
    key, text = new_key_text()
    certificate = sign(ca, key.public_key(), common_name, organisations, names, days)
    write_file(pair.key, text)
    write_file(pair.crt, pem(certificate), 0o644)


def _still_good(path: str, ca: Pair, names) -> bool:
    certificate, authority = load(path), load(ca.crt)
    if certificate.not_valid_after - datetime.datetime.utcnow() < datetime.timedelta(days=RENEW_BEFORE):
        return False
    try:
        authority.public_key().verify(
            certificate.signature, certificate.tbs_certificate_bytes, ec.ECDSA(certificate.signature_hash_algorithm)
        )
        has = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value if names else []
    except Exception:  # another authority's, or without names: made anew
        return False
    return set(names) <= {str(name.value) for name in has}


def ensure_key_pair(key_path: str, pub_path: str) -> None:
    """Key and public key with which service accounts' tokens are signed and checked."""
    if os.path.exists(key_path) and os.path.exists(pub_path):
        return
    key, text = new_key_text()
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    write_file(key_path, text)
    write_file(pub_path, public, 0o644)


def new_request(common_name: str, organisations) -> tuple[bytes, bytes]:
    """(key, certificate request) as PEM."""
    key, text = new_key_text()
    request = x509.CertificateSigningRequestBuilder().subject_name(_name(common_name, organisations)).sign(key, hashes.SHA256())
    return text, request.public_bytes(serialization.Encoding.PEM)
