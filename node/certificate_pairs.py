"""Certificates that a listener can show: a chain with its key, scored and found by the name that a client asks for.

A listener of one purpose shows, per host name, the pair with the highest score: one meant for the purpose before any
other, an operator's before a generated one, the latest when equal. What has expired serves only where nothing else
does.
"""

import ipaddress
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Literal, TypeAlias, TypeVar

from cryptography import x509

from node.certificate_files import Unusable, is_issued_by, is_key_of, parse_chain, parse_key, read_bytes
from node.certificate_issuing import common_name_of, general_names_of
from node.certificates import CERTIFICATE, KEY, NodeCertificates, is_own
from node.settings import TlsFiles

log = logging.getLogger("tls")

Purpose: TypeAlias = Literal["server", "operations-api", "replication"]
_USES_OF: Final[Mapping[Purpose, frozenset[str]]] = {
    "server": frozenset(("https", "server")),
    "operations-api": frozenset(("operations",)),
    "replication": frozenset(("replication",)),
}
_SCORE_OPERATORS: Final = 3
_SCORE_GENERATED: Final = 1
_SCORE_NODE_NAME: Final = 1
_SCORE_PURPOSE: Final = 100
"""More than all others together."""
_CHAIN_LENGTH_MAX: Final = 10

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificatePair:
    """A chain, leaf first, and the key of its leaf, which belong together. Hosts are lower case."""

    name: str
    """Where it comes from, for the log."""
    chain: tuple[x509.Certificate, ...]
    key_pem: bytes = field(repr=False)
    hosts: tuple[str, ...]
    uses: tuple[str, ...]
    is_generated: bool
    ciphers: str | None = None

    @property
    def leaf(self) -> x509.Certificate:
        return self.chain[0]


def own_pair(certificates: NodeCertificates) -> CertificatePair:
    """What the keys folder holds. Raises ``Unusable`` or ``OSError`` where it changed for the worse since the start."""
    keys = certificates.keys_path
    return _load_pair(keys / CERTIFICATE, keys / KEY, uses=("https", "wss"), authorities=[certificates.authority])


def configured_pairs(
    entries: Iterable[TlsFiles], certificates: NodeCertificates, *, uses: tuple[str, ...]
) -> list[CertificatePair]:
    """The pairs of configuration entries; an entry's missing file is that of the keys folder.

    A broken entry is logged and left out: it never stops the node.
    """
    keys = certificates.keys_path
    pairs = []
    for entry in entries:
        try:
            pairs.append(
                _load_pair(
                    entry.certificate or keys / CERTIFICATE,
                    entry.private_key or keys / KEY,
                    uses=uses,
                    authorities=[*_authorities_of(entry), certificates.authority],
                    host=entry.host,
                    ciphers=entry.ciphers,
                )
            )
        except (Unusable, OSError) as error:
            log.error("certificate is left out: %s", error)
    return pairs


def choose(
    pairs: Iterable[CertificatePair], purpose: Purpose, *, node: str, now: datetime
) -> tuple[CertificatePair, dict[str, CertificatePair]]:
    """The pair for clients that name no known host, and the best one per host. ``pairs`` must not be empty."""
    ranked = sorted(pairs, key=lambda pair: _rank(pair, purpose, node, now))
    by_host = {host: pair for pair in ranked for host in pair.hosts if not is_address(host)}
    return ranked[-1], by_host


def find_by_host(by_host: Mapping[str, Found], asked: str | None) -> Found | None:
    """What belongs to the name that a client asks for: the exact one, then a wildcard of one label; None without
    either.
    """
    if asked is None:
        return None
    host = asked.lower().rstrip(".")
    _, _, parent = host.partition(".")
    return by_host.get(host) or by_host.get(f"*.{parent}")


def hosts_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Names and addresses that it is valid for, its CN where it names none."""
    hosts = [
        str(name.value) for name in general_names_of(certificate) if isinstance(name, x509.DNSName | x509.IPAddress)
    ]
    common_name = common_name_of(certificate.subject)
    if not hosts and common_name is not None:
        hosts = [common_name]
    return tuple(host.lower() for host in hosts)


def is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _rank(pair: CertificatePair, purpose: Purpose, node: str, now: datetime) -> tuple[bool, int, datetime]:
    leaf = pair.leaf
    is_valid = leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc
    score = _SCORE_GENERATED if pair.is_generated else _SCORE_OPERATORS
    if node.lower() in pair.hosts:
        score += _SCORE_NODE_NAME
    if not _USES_OF[purpose].isdisjoint(pair.uses):
        score += _SCORE_PURPOSE
    return is_valid, score, leaf.not_valid_before_utc


def _load_pair(
    certificate_path: Path,
    key_path: Path,
    *,
    uses: tuple[str, ...],
    authorities: Sequence[x509.Certificate],
    host: str | None = None,
    ciphers: str | None = None,
) -> CertificatePair:
    """Read both files once, so that the pair stays one whatever happens to them afterwards."""
    certificate_data, key_data = read_bytes(certificate_path), read_bytes(key_path)
    for path, data in ((certificate_path, certificate_data), (key_path, key_data)):
        if data is None:
            raise Unusable(f"{path} does not exist")
    assert certificate_data is not None and key_data is not None
    chain = parse_chain(certificate_data, certificate_path)
    if not is_key_of(parse_key(key_data, key_path), chain[0]):
        raise Unusable(f"the key {key_path} does not belong to the certificate {certificate_path}")
    return CertificatePair(
        name=str(certificate_path),
        chain=_completed(chain, authorities),
        key_pem=key_data,
        hosts=hosts_of(chain[0]) if host is None else (host.lower(),),
        uses=uses,
        is_generated=is_own(chain[0], authorities[-1]),
        ciphers=ciphers,
    )


def _authorities_of(entry: TlsFiles) -> list[x509.Certificate]:
    if entry.authority is None:
        return []
    data = read_bytes(entry.authority)
    if data is None:
        raise Unusable(f"{entry.authority} does not exist")
    return parse_chain(data, entry.authority)


def _completed(
    chain: Sequence[x509.Certificate], authorities: Sequence[x509.Certificate]
) -> tuple[x509.Certificate, ...]:
    """``chain`` up to its root as far as ``authorities`` know the issuers."""
    completed = list(chain)
    while len(completed) < _CHAIN_LENGTH_MAX and completed[-1].issuer != completed[-1].subject:
        issuer = next((authority for authority in authorities if is_issued_by(completed[-1], authority)), None)
        if issuer is None:
            break
        completed.append(issuer)
    return tuple(completed)
