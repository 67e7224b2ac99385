"""Certificates as rows of ``hdb_certificate``: what a row says of one, and the rows that files stand for.

Files are those of the keys folder and those that ``tls`` and ``operationsApi.tls`` name. A broken file is told in the
log and skipped. No key material is ever in a row, only a key file's name.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from cryptography import x509

from node.certificate_files import Unusable, is_key_of, parse_chain, parse_key, pem_of, read_bytes
from node.certificate_issuing import AUTHORITY_PREFIX, common_name_of, general_names_of
from node.certificates import AUTHORITY, CERTIFICATE, KEY, NodeCertificates, is_generated
from node.settings import TlsFiles
from ops.certificate_details import certificate_details

log = logging.getLogger("tls")

Row: TypeAlias = dict[str, Any]

OWN_USES: Final = ("https", "wss")
AUTHORITY_USES: Final = ("https",)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfiguredFiles:
    """One entry of configuration, and what its certificate is used for."""

    files: TlsFiles
    uses: tuple[str, ...]


def row_of(chain: Sequence[x509.Certificate], *, name: str, is_authority: bool) -> Row:
    """What can be told of every certificate; the caller adds the rest."""
    return {
        "name": name,
        "certificate": "".join(map(pem_of, chain)),
        "is_authority": is_authority,
        "is_self_signed": False,
        "details": certificate_details(chain[0]),
    }


def hosts_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Names and addresses that it is valid for, its CN where it names none; lower case."""
    hosts = _alternative_hosts(certificate)
    common_name = common_name_of(certificate.subject)
    if not hosts and common_name is not None:
        hosts = (common_name.lower(),)
    return hosts


def names_in(certificate: x509.Certificate) -> tuple[str, ...]:
    """What may identify a node: the CN, then names and addresses; lower case."""
    common_name = common_name_of(certificate.subject)
    first = () if common_name is None else (common_name.lower(),)
    return (*first, *_alternative_hosts(certificate))


def default_name(certificate: x509.Certificate) -> str | None:
    """The name of a row whose certificate was given without one: CN, else the first host; None without either."""
    common_name = common_name_of(certificate.subject)
    return common_name or next(iter(_alternative_hosts(certificate)), None)


def certificate_rows(certificates: NodeCertificates, *, node: str) -> tuple[Row, Row]:
    """The authority and the certificate of the keys folder."""
    authority, keys = certificates.authority, certificates.keys_path
    name = common_name_of(authority.subject) or f"{AUTHORITY_PREFIX}{node}"
    is_ours = is_generated(authority)
    return (
        {
            **row_of([authority], name=name, is_authority=True),
            "is_self_signed": is_ours,
            "uses": list(AUTHORITY_USES),
            **({} if is_ours else _timestamp(keys / AUTHORITY)),
        },
        {
            **row_of(certificates.chain, name=node, is_authority=False),
            "is_self_signed": certificates.is_own,
            "private_key_name": KEY,
            "uses": list(OWN_USES),
            **({} if certificates.is_own else _timestamp(keys / CERTIFICATE)),
        },
    )


def rows_of_files(
    certificates: NodeCertificates, configured: Iterable[ConfiguredFiles], *, node: str
) -> dict[str, Row]:
    """Rows by name. A configured certificate takes the place of the node's own that has the same name."""
    authority, own = certificate_rows(certificates, node=node)
    rows = {authority["name"]: authority, own["name"]: own}
    for entry in configured:
        if _means_own(entry.files, certificates.keys_path):
            own |= _overrides(entry.files)
            continue
        for row in _rows_of_entry(entry, certificates.keys_path):
            if row["certificate"] != authority["certificate"]:
                name = _free_name(row, rows, own)
                rows[name] = {**row, "name": name}
    return rows


def _means_own(files: TlsFiles, keys: Path) -> bool:
    """Is it the pair of the keys folder that an entry is about?"""
    return (
        files.certificate in (None, keys / CERTIFICATE)
        and files.private_key in (None, keys / KEY)
        and files.authority is None
    )


def _overrides(files: TlsFiles) -> Row:
    row: Row = {}
    if files.host is not None:
        row["hostnames"] = [files.host]
    if files.ciphers is not None:
        row["ciphers"] = files.ciphers
    return row


def _rows_of_entry(entry: ConfiguredFiles, keys: Path) -> Iterator[Row]:
    files = entry.files
    certificate = files.certificate or keys / CERTIFICATE
    try:
        yield _leaf_row(entry, certificate, files.private_key or keys / KEY)
    except (Unusable, OSError) as error:
        log.error("certificate is left out: %s", error)
    if files.authority is not None:
        try:
            yield _authority_row(files.authority)
        except (Unusable, OSError) as error:
            log.error("certificate authority is left out: %s", error)


def _leaf_row(entry: ConfiguredFiles, certificate_path: Path, key_path: Path) -> Row:
    chain = parse_chain(_content(certificate_path), certificate_path)
    if not is_key_of(parse_key(_content(key_path), key_path), chain[0]):
        raise Unusable(f"the key {key_path} does not belong to the certificate {certificate_path}")
    return {
        **row_of(chain, name=_name_in_table(chain[0], certificate_path), is_authority=False),
        "private_key_name": key_path.name,
        "uses": list(entry.uses),
        **_overrides(entry.files),
        **_timestamp(certificate_path),
    }


def _authority_row(path: Path) -> Row:
    """All authorities of a file, called like the first."""
    authorities = parse_chain(_content(path), path)
    return {**row_of(authorities, name=_name_in_table(authorities[0], path), is_authority=True), **_timestamp(path)}


def _name_in_table(certificate: x509.Certificate, path: Path) -> str:
    return default_name(certificate) or certificate_details(certificate)["subject"] or path.name


def _free_name(row: Row, rows: Mapping[str, Row], own: Row) -> str:
    """Its name; with a number where another certificate, or the same one as an authority, has that already."""
    name, number = row["name"], 1
    while (known := rows.get(name)) is not None:
        if known is own and not row["is_authority"]:
            break
        if known["certificate"] == row["certificate"] and known["is_authority"] == row["is_authority"]:
            break
        number += 1
        name = f"{row['name']}-{number}"
    return str(name)


def _content(path: Path) -> bytes:
    data = read_bytes(path)
    if data is None:
        raise Unusable(f"{path} does not exist")
    return data


def _timestamp(path: Path) -> Row:
    return {"file_timestamp": path.stat().st_mtime_ns // 1_000_000}


def _alternative_hosts(certificate: x509.Certificate) -> tuple[str, ...]:
    names = general_names_of(certificate)
    return tuple(str(name.value).lower() for name in names if isinstance(name, x509.DNSName | x509.IPAddress))
