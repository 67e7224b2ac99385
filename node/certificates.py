"""The node's own authority and certificate in ``<rootPath>/keys/``: made at the first start, kept in order at every
start.

``caPrivateKey.pem`` and ``ca.pem`` are the authority, ``privateKey.pem`` and ``certificate.pem`` what the node shows. Each
file is written in one step, a key before the certificate that needs it, and every start mends in this order: a key
that is there is kept, a certificate that is missing or does not fit the files before it is made. So a crash between
any two steps leaves nothing that the next start does not complete, and no key serves without a certificate.

What somebody else put there is respected: a pair of another authority stays, whatever its names. Content that cannot
serve is renamed, never deleted. The private key outlives its certificates: others may have been signed for it.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, TypeVar, cast

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPublicKeyTypes, PrivateKeyTypes

from node.certificate_files import (
    Unusable,
    is_issued_by,
    is_key_of,
    prepare_keys_folder,
    read_chain,
    read_key,
    set_aside,
    write_certificate,
    write_key,
)
from node.certificate_issuing import (
    AUTHORITY_PREFIX,
    PrivateKey,
    common_name_of,
    general_names_of,
    host_names,
    issue_authority,
    issue_leaf,
    new_key,
    node_subject,
)
from storage.clock import RELEASED_AT_US

log = logging.getLogger("tls")

AUTHORITY_KEY: Final = "caPrivateKey.pem"
AUTHORITY: Final = "ca.pem"
KEY: Final = "privateKey.pem"
CERTIFICATE: Final = "certificate.pem"
RENEWED_BEFORE_END: Final = timedelta(days=30)
_RELEASED_AT: Final = datetime.fromtimestamp(RELEASED_AT_US / 1_000_000, UTC)

Content = TypeVar("Content")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCertificates:
    """The pair that this node issued for itself, or found in its keys folder, and its authority."""

    keys_path: Path
    authority: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    """The node's certificate first."""

    @property
    def is_own(self) -> bool:
        """False where somebody put a certificate of another authority in its place."""
        return is_own(self.chain[0], self.authority)


def is_generated(certificate: x509.Certificate) -> bool:
    """Did an authority issue it that a node generated?"""
    return (common_name_of(certificate.issuer) or "").startswith(AUTHORITY_PREFIX)


def is_own(leaf: x509.Certificate, authority: x509.Certificate) -> bool:
    """Is ``leaf`` one that nodes issue for themselves, and so may be issued anew? An operator's authority may sign
    them.
    """
    return is_generated(leaf) or is_issued_by(leaf, authority)


def ensure_certificates(
    keys: Path, *, node: str, hosts: Sequence[str] = (), now: datetime | None = None
) -> NodeCertificates:
    """Complete the keys folder for a node called ``node`` that is reached as ``hosts`` too (of its URL).

    Blocks for disk syncs. Only the process that holds the root folder's lock may call it. Raises ``OSError`` where the
    folder cannot be read or written.
    """
    prepare_keys_folder(keys)
    now = max(now or datetime.now(UTC), _RELEASED_AT)  # a clock that is not set must not spoil good certificates
    authority, authority_key = _ensure_authority(keys, node=node, now=now)
    key = _ensure_key(keys / KEY)
    chain = _usable(read_chain, keys / CERTIFICATE)
    reason = _reason_to_issue(chain, key, authority, node=node, hosts=hosts, now=now)
    if reason is not None:
        if chain is not None and not is_own(chain[0], authority):
            _move_aside(keys / CERTIFICATE)
        log.info("issuing a certificate for %s: %s", node, reason)
        leaf = issue_leaf(
            cast(CertificateIssuerPublicKeyTypes, key.public_key()),
            node=node,
            hosts=hosts,
            authority=authority,
            authority_key=authority_key,
            now=now,
        )
        write_certificate(keys / CERTIFICATE, leaf)
        chain = [leaf]
    assert chain is not None
    return NodeCertificates(keys_path=keys, authority=authority, chain=tuple(chain))


def renew_certificates(keys: Path, *, node: str, hosts: Sequence[str] = ()) -> NodeCertificates:
    """Replace the generated authority and certificate by new ones; the node's private key and foreign files stay.

    For a stopped node. Peers must trust the new authority, or sign again, before they accept this node.
    """
    prepare_keys_folder(keys)
    authority = _usable(read_chain, keys / AUTHORITY)
    if authority is not None and is_generated(authority[0]):
        (keys / AUTHORITY).unlink()
        (keys / AUTHORITY_KEY).unlink(missing_ok=True)
    chain = _usable(read_chain, keys / CERTIFICATE)
    if chain is not None and is_generated(chain[0]):
        (keys / CERTIFICATE).unlink()
    return ensure_certificates(keys, node=node, hosts=hosts)


def read_certificates(keys: Path) -> NodeCertificates:
    """What the keys folder holds now. Raises ``Unusable`` or ``OSError`` where it is not whole: nothing is mended."""
    authority, chain, key = read_chain(keys / AUTHORITY), read_chain(keys / CERTIFICATE), read_key(keys / KEY)
    for name, content in ((AUTHORITY, authority), (CERTIFICATE, chain), (KEY, key)):
        if content is None:
            raise Unusable(f"{keys / name} does not exist")
    assert authority is not None and chain is not None and key is not None
    if not is_key_of(key, chain[0]):
        raise Unusable(f"the key {keys / KEY} does not belong to the certificate {keys / CERTIFICATE}")
    return NodeCertificates(keys_path=keys, authority=authority[0], chain=tuple(chain))


def _ensure_authority(keys: Path, *, node: str, now: datetime) -> tuple[x509.Certificate, PrivateKey]:
    """An authority with its key. One that was generated gets a new certificate for its old key while that is known."""
    chain = _usable(read_chain, keys / AUTHORITY)
    key = _usable(read_key, keys / AUTHORITY_KEY)
    if chain is not None and key is not None and _can_sign(chain[0], key, now):
        return chain[0], cast(PrivateKey, key)
    if chain is not None:
        if key is not None and not is_generated(chain[0]):
            _move_aside(keys / AUTHORITY_KEY)  # an operator's authority that ended: its key is not ours to go on with
        _move_aside(keys / AUTHORITY)
    log.info("making a certificate authority for %s", node)
    signing_key = cast(PrivateKey, _ensure_key(keys / AUTHORITY_KEY))
    authority = issue_authority(signing_key, node=node, now=now)
    write_certificate(keys / AUTHORITY, authority)
    return authority, signing_key


def _can_sign(authority: x509.Certificate, key: PrivateKeyTypes, now: datetime) -> bool:
    """Has it the right, the key and time left? A generated one is renewed in time for its leaves."""
    try:
        constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return False
    if not (constraints.ca and is_key_of(key, authority)):
        return False
    if not is_generated(authority):
        return now < authority.not_valid_after_utc
    return now < authority.not_valid_after_utc - RENEWED_BEFORE_END and _has_begun(authority, now)


def _reason_to_issue(
    chain: Sequence[x509.Certificate] | None,
    key: PrivateKeyTypes,
    authority: x509.Certificate,
    *,
    node: str,
    hosts: Iterable[str],
    now: datetime,
) -> str | None:
    """Why the node's certificate must be issued anew; None where the one that is there may stay."""
    if chain is None:
        return "there is none"
    leaf = chain[0]
    if not is_key_of(key, leaf):
        return "the one that is there belongs to another key"
    if not is_issued_by(leaf, authority):
        return "its authority changed" if is_generated(leaf) else None
    if leaf.subject != node_subject(node) or not set(host_names(node, hosts)) <= set(general_names_of(leaf)):
        return "the node's name or address changed"
    ends = leaf.not_valid_after_utc
    if ends - now < RENEWED_BEFORE_END and ends < authority.not_valid_after_utc:
        return f"it is valid until {ends:%Y-%m-%d}"
    if not _has_begun(leaf, now):
        return f"it is valid only from {leaf.not_valid_before_utc:%Y-%m-%d}"
    return None


def _has_begun(certificate: x509.Certificate, now: datetime) -> bool:
    """False for what was issued while the clock was ahead. A clock that is not set cannot tell."""
    return now == _RELEASED_AT or certificate.not_valid_before_utc <= now


def _ensure_key(path: Path) -> PrivateKeyTypes:
    key = _usable(read_key, path)
    if key is None:
        key = new_key()
        write_key(path, key)
    return key


def _usable(read: Callable[[Path], Content], path: Path) -> Content | None:
    """What ``path`` holds; None where there is nothing, or nothing of use, which is moved out of the way."""
    try:
        return read(path)
    except Unusable as error:
        log.error("%s", error)
        _move_aside(path)
        return None


def _move_aside(path: Path) -> None:
    log.warning("%s is replaced and kept as %s", path, set_aside(path).name)
