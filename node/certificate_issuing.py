"""Makes the certificates that a node issues: its own authority, and leaves signed by it. Pure: no files, no clock.

Chains pass the strict checks of RFC 5280 (``ssl.VERIFY_X509_STRICT``, Python's default from 3.13 on): key identifiers
on both sides, critical basic constraints and key usage. Leaves are for servers and for clients, as nodes dial each
other.
"""

import ipaddress
import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificateIssuerPrivateKeyTypes,
    CertificateIssuerPublicKeyTypes,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_PREFIX: Final = "logmesh-Certificate-Authority-"
VALIDITY: Final = timedelta(days=3650)
BACKDATED: Final = timedelta(hours=1)
"""Peers whose clocks are a little behind must not find a fresh certificate not yet valid."""
LOOPBACK_HOSTS: Final = ("127.0.0.1", "localhost", "::1")
_COMMON_NAME_LENGTH_MAX: Final = 64
"""``ub-common-name`` of RFC 5280."""
_HOST: Final = re.compile(r"[A-Za-z0-9*._-]{1,253}")

PrivateKey = CertificateIssuerPrivateKeyTypes


def new_key() -> ec.EllipticCurvePrivateKey:
    """A P-256 key: known to every client, and its handshakes cost a fraction of RSA's."""
    return ec.generate_private_key(ec.SECP256R1())


def issue_authority(key: PrivateKey, *, node: str, now: datetime) -> x509.Certificate:
    """A self-signed authority for ``key``. It signs leaves only."""
    common_name = AUTHORITY_PREFIX + node
    if len(common_name) > _COMMON_NAME_LENGTH_MAX:
        common_name = AUTHORITY_PREFIX + uuid.uuid4().hex[:8]
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    begins = now - BACKDATED
    builder = _builder(name, issuer=name, public_key=key.public_key(), begins=begins, ends=begins + VALIDITY)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
    return builder.sign(key, digest_for(key))


def issue_leaf(
    public_key: CertificateIssuerPublicKeyTypes,
    *,
    node: str,
    hosts: Iterable[str],
    authority: x509.Certificate,
    authority_key: PrivateKey,
    now: datetime,
) -> x509.Certificate:
    """A leaf of ``node`` for the loopbacks, ``node`` and ``hosts``, and no longer than its authority."""
    return issue_for(
        public_key,
        subject=node_subject(node),
        names=host_names(node, hosts),
        authority=authority,
        authority_key=authority_key,
        now=now,
    )


def issue_for(
    public_key: CertificateIssuerPublicKeyTypes,
    *,
    subject: x509.Name,
    names: Sequence[x509.GeneralName],
    authority: x509.Certificate,
    authority_key: PrivateKey,
    now: datetime,
) -> x509.Certificate:
    """A leaf for servers and clients with exactly this subject and these names, and no longer than its authority."""
    begins = max(now - BACKDATED, authority.not_valid_before_utc)
    ends = min(begins + VALIDITY, authority.not_valid_after_utc)
    builder = _builder(subject, issuer=authority.subject, public_key=public_key, begins=begins, ends=ends)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=not list(subject))
    builder = builder.add_extension(_authority_key_identifier(authority), critical=False)
    return builder.sign(authority_key, digest_for(authority_key))


def node_subject(node: str) -> x509.Name:
    """CN ``node``; empty where the name is too long for a CN. A cut one might be another node's: the SANs identify
    it.
    """
    if not 0 < len(node) <= _COMMON_NAME_LENGTH_MAX:
        return x509.Name([])
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node)])


def host_names(node: str, hosts: Iterable[str]) -> list[x509.GeneralName]:
    """Subject alternative names: loopbacks, ``node``, ``hosts``, without repetition.

    Addresses are of IP type. What is neither an address nor expressible as a DNS name is left out.
    """
    names = (general_name(host) for host in (*LOOPBACK_HOSTS, node, *hosts))
    return list(dict.fromkeys(name for name in names if name is not None))


def general_name(host: str) -> x509.GeneralName | None:
    try:
        return x509.IPAddress(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        pass
    try:
        ascii_name = host if host.isascii() else host.encode("idna").decode("ascii")
        return x509.DNSName(ascii_name) if _HOST.fullmatch(ascii_name) else None
    except ValueError:
        return None


def general_names_of(certificate: x509.Certificate) -> list[x509.GeneralName]:
    """Its subject alternative names, of all types."""
    try:
        return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []


def common_name_of(name: x509.Name) -> str | None:
    """The most specific CN, None where there is none."""
    return next(reversed(list(_common_names(name))), None)


def _common_names(name: x509.Name) -> Iterator[str]:
    for attribute in name.get_attributes_for_oid(NameOID.COMMON_NAME):
        yield attribute.value if isinstance(attribute.value, str) else attribute.value.decode("utf-8", "replace")


def _builder(
    subject: x509.Name,
    *,
    issuer: x509.Name,
    public_key: CertificateIssuerPublicKeyTypes,
    begins: datetime,
    ends: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_encipherment=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_key_identifier(authority: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """The authority's own identifier as it stands in its certificate; verifiers compare the bytes."""
    try:
        identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        issuer_key = authority.public_key()
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key)  # type: ignore[arg-type]
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def digest_for(key: PrivateKey) -> hashes.SHA256 | None:
    """Edwards curves bring a digest of their own."""
    return None if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey) else hashes.SHA256()
