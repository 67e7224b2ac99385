"""Certificates that a listener can show: a chain with its key, scored and found by the name that a client asks for.

A listener of one purpose shows, per host name, the pair with the highest score: one meant for the purpose before any
other, an operator's before a generated one, the latest when equal. What has expired serves only where nothing else
does. Peers accept only a certificate that names the node, so between nodes that counts before who made it.
"""

import ipaddress
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias, TypeVar

from cryptography import x509

from node.certificate_files import Unusable, is_issued_by, parse_chain, read_bytes
from node.certificate_rows import OWN_USES, Row, hosts_of, names_in
from node.certificates import CERTIFICATE, KEY, NodeCertificates
from node.key_files import KeyFiles

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
_SCORE_NODE_NAME_FOR_PEERS: Final = 10
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
    """What the keys folder holds. Raises ``Unusable`` or ``OSError`` where its key is gone."""
    path = certificates.keys_path / KEY
    key_pem = read_bytes(path)
    if key_pem is None:
        raise Unusable(f"{path} does not exist")
    return CertificatePair(
        name=str(certificates.keys_path / CERTIFICATE),
        chain=_completed(certificates.chain, [certificates.authority]),
        key_pem=key_pem,
        hosts=hosts_of(certificates.chain[0]),
        uses=OWN_USES,
        is_generated=certificates.is_own,
    )


def with_own(pairs: Sequence[CertificatePair], certificates: NodeCertificates) -> list[CertificatePair]:
    """``pairs`` and the node's own one, once: as the table has it where it does. Raises as ``own_pair`` does."""
    own = own_pair(certificates)
    return [*pairs] if any(pair.leaf == own.leaf for pair in pairs) else [*pairs, own]


class TablePairs:
    """The pairs of rows of ``hdb_certificate``. What cannot serve is told once and left out.

    A pair whose key became unusable stays as it was read last: files are replaced one after the other.
    """

    def __init__(self, keys: KeyFiles) -> None:
        self._keys = keys
        self._last: dict[str, CertificatePair] = {}
        self._told: frozenset[str] = frozenset()

    def load(self, rows: Sequence[Row]) -> list[CertificatePair]:
        """Blocks for reading keys. May be called from several threads."""
        problems: set[str] = set()
        authorities = authorities_of(rows)
        pairs: dict[str, CertificatePair] = {}
        for row in rows:
            if row.get("is_authority"):
                continue
            name = row["name"]
            try:
                pairs[name] = self._pair(row, authorities)
            except (Unusable, OSError) as error:
                problems.add(f"certificate {name} is left out: {error}")
        for problem in problems - self._told:
            log.error("%s", problem)
        self._told, self._last = frozenset(problems), pairs
        return list(pairs.values())

    def _pair(self, row: Row, authorities: Sequence[x509.Certificate]) -> CertificatePair:
        name = row["name"]
        chain = certificates_in(row)
        return CertificatePair(
            name=name,
            chain=_completed(chain, authorities),
            key_pem=self._key_pem(row, chain[0]),
            hosts=_texts(row.get("hosts")) or _texts(row.get("hostnames")) or hosts_of(chain[0]),
            uses=_texts(row.get("uses")),
            is_generated=bool(row.get("is_self_signed")),
            ciphers=row.get("ciphers"),
        )

    def _key_pem(self, row: Row, leaf: x509.Certificate) -> bytes:
        try:
            return self._keys.read_for(row.get("private_key_name") or "", leaf)
        except (Unusable, OSError) as error:
            last = self._last.get(row["name"])
            if last is None or last.leaf != leaf:
                raise
            log.warning("certificate %s keeps the key that was read before: %s", row["name"], error)
            return last.key_pem


def certificates_in(row: Row) -> list[x509.Certificate]:
    """The certificates of a row, the leaf first. Raises ``Unusable``."""
    return parse_chain(str(row.get("certificate")).encode("utf-8", "replace"), f"the row {row['name']}")


def authorities_of(rows: Iterable[Row]) -> list[x509.Certificate]:
    """All authorities among the rows; one that cannot be read is nobody's authority."""
    found = []
    for row in rows:
        if row.get("is_authority"):
            try:
                found.extend(certificates_in(row))
            except Unusable as error:
                log.error("%s", error)
    return found


def choose(
    pairs: Iterable[CertificatePair], purpose: Purpose, *, node: str, now: datetime
) -> tuple[CertificatePair, dict[str, CertificatePair]]:
    """The pair for clients that name no known host, and the best one per host. ``pairs`` must not be empty."""
    ranked = sorted(pairs, key=lambda pair: _rank(pair, purpose, node, now))
    by_host = {host: pair for pair in ranked for host in pair.hosts if not is_address(host)}
    return ranked[-1], by_host


def anchor_of(pair: CertificatePair) -> x509.Certificate:
    """The authority that peers have to trust to accept ``pair``: as far up as it is known, else the leaf itself."""
    return pair.chain[-1]


def find_by_host(by_host: Mapping[str, Found], asked: str | None) -> Found | None:
    """What belongs to the name that a client asks for: the exact one, then a wildcard of one label; None without
    either.
    """
    if asked is None:
        return None
    host = asked.lower().rstrip(".")
    _, _, parent = host.partition(".")
    return by_host.get(host) or by_host.get(f"*.{parent}")


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
    if purpose == "replication":
        score += _SCORE_NODE_NAME_FOR_PEERS if node.lower() in names_in(leaf) else 0
    elif node.lower() in pair.hosts:
        score += _SCORE_NODE_NAME
    if not _USES_OF[purpose].isdisjoint(pair.uses):
        score += _SCORE_PURPOSE
    elif purpose != "replication" and _USES_OF["replication"].issuperset(pair.uses) and pair.uses:
        score -= (
            _SCORE_PURPOSE  # what a cluster signed for links: clients that know this node's authority would refuse it
        )
    return is_valid, score, leaf.not_valid_before_utc


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


def _texts(value: Any) -> tuple[str, ...]:
    """The texts of a list in a row, lower case; nothing where it is no list."""
    return tuple(item.lower() for item in value if isinstance(item, str)) if isinstance(value, list) else ()
