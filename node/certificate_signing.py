"""Certificate signing requests: making this node's own, and signing those of others. Pure: no files, no clock.

A request is taken for nothing but its key, its CN and the hosts it names. What a certificate may do is decided here: it
is for servers and clients and is no authority, whatever the request asks for. As a name is all that peers know a node
by, a name is given only to whom it belongs; the loopbacks, which every node asks for, are left out where one of them
is the name of a member.
"""

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, cast

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding

from node.certificate_issuing import (
    LOOPBACK_HOSTS,
    PrivateKey,
    common_name_of,
    digest_for,
    general_name,
    host_names,
    issue_for,
    node_subject,
)
from ops.errors import InvalidParams

REQUEST_LENGTH_MAX: Final = 64 * 1024
NAMES_MAX: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningRules:
    """What a request may ask for."""

    for_node: str | None = None
    """The node that joins: then the certificate is for its name, the host of its URL and the loopbacks alone."""
    url_host: str | None = None
    others: frozenset[str] = frozenset()
    """Names of members that the caller is not, as ``spelling`` has them."""
    may_take_over: bool = False
    """May it get the name of another member?"""


def make_request(key: PrivateKey, *, node: str, hosts: Iterable[str]) -> str:
    """A request in PEM format for ``node``, the loopbacks and ``hosts``."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(node_subject(node))
    builder = builder.add_extension(x509.SubjectAlternativeName(host_names(node, hosts)), critical=False)
    return builder.sign(key, digest_for(key)).public_bytes(Encoding.PEM).decode("ascii")


def sign_request(
    pem: str, rules: SigningRules, *, authority: x509.Certificate, authority_key: PrivateKey, now: datetime
) -> x509.Certificate:
    """The certificate that ``pem`` asks for, as far as ``rules`` allow. Raises ``InvalidParams``."""
    request, common_name, names = _read(pem)
    names = [name for name in names if not (_is_loopback(name) and _spelling_of(name) in rules.others)]
    _check(common_name, names, rules)
    if not names and common_name is not None:
        names = [name for name in (general_name(common_name),) if name is not None]
    if not names:
        raise _refused("it names no host")
    return issue_for(
        cast(CertificateIssuerPublicKeyTypes, request.public_key()),
        subject=node_subject(common_name or ""),
        names=list(dict.fromkeys(names)),
        authority=authority,
        authority_key=authority_key,
        now=now,
    )


def may_sign(authority: x509.Certificate, now: datetime) -> bool:
    """Is it an authority for certificates, and valid now?"""
    extensions = authority.extensions
    try:
        if not extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
        if not extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign:
            return False
    except x509.ExtensionNotFound as missing:
        if missing.oid == x509.BasicConstraints.oid:
            return False
    return authority.not_valid_before_utc <= now <= authority.not_valid_after_utc


def spelling(name: str) -> str:
    """One form of all spellings of a host or node name, to compare it by."""
    found = general_name(name)
    return name.lower() if found is None else _spelling_of(found)


def _read(pem: str) -> tuple[x509.CertificateSigningRequest, str | None, list[x509.GeneralName]]:
    """A request whose signature is right, its most specific CN, and the hosts that it names."""
    if len(pem) > REQUEST_LENGTH_MAX:
        raise _refused(f"it is longer than {REQUEST_LENGTH_MAX} characters")
    try:
        request = x509.load_pem_x509_csr(pem.encode())
        if not request.is_signature_valid:
            raise _refused("its signature does not fit its key")
        request.public_key()
        return request, common_name_of(request.subject), list(_hosts(request))
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.InvalidVersion) as error:
        raise _refused("it is no certificate signing request in PEM format") from error
    except x509.UnsupportedGeneralNameType as error:
        raise _refused("it names something of an unknown kind") from error


def _hosts(request: x509.CertificateSigningRequest) -> Iterator[x509.GeneralName]:
    try:
        found = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return
    for name in found:
        if not isinstance(name, x509.DNSName | x509.IPAddress):
            continue
        if general_name(str(name.value)) is None:
            raise _refused(f"'{name.value}' is no host name")
        yield name


def _check(common_name: str | None, names: list[x509.GeneralName], rules: SigningRules) -> None:
    if len(names) > NAMES_MAX:
        raise _refused(f"it names more than {NAMES_MAX} hosts")
    spellings = [_spelling_of(name) for name in names]
    if rules.for_node is not None:
        _check_is_for(rules.for_node, common_name, spellings, rules.url_host)
    if rules.may_take_over:
        return
    asked = spellings if common_name is None else [spelling(common_name), *spellings]
    for name in asked:
        if name in rules.others:
            raise _refused(f"'{name}' is the name of another member")


def _check_is_for(node: str, common_name: str | None, spellings: list[str], url_host: str | None) -> None:
    """A name that is too long for a CN has to be among the hosts."""
    own = spelling(node)
    is_named = own in spellings if common_name is None and not list(node_subject(node)) else False
    if not is_named and (common_name is None or spelling(common_name) != own):
        raise _refused(f"it is not for '{node}'")
    allowed = {own, *map(spelling, LOOPBACK_HOSTS)} | ({spelling(url_host)} if url_host else set())
    for name in spellings:
        if name not in allowed:
            raise _refused(f"'{name}' is neither '{node}' nor the host of its URL")


def _is_loopback(name: x509.GeneralName) -> bool:
    return _spelling_of(name) in LOOPBACK_HOSTS


def _spelling_of(name: x509.GeneralName) -> str:
    """A DNS name that is the text of an address counts as the address."""
    text = str(name.value).lower().rstrip(".")
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return text


def _refused(reason: str) -> InvalidParams:
    return InvalidParams(f"Error verifying CSR: {reason}")
