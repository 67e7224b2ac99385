"""A node as far as certificates need one: keys folder, system tables, store; and certificates of all kinds to add."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from node.certificate_files import pem_of
from node.certificate_rows import ConfiguredFiles, Row
from node.certificate_source import CertificateSource
from node.certificate_store import CertificateStore
from node.certificates import ensure_certificates, read_certificates
from node.replication_tls import ReplicationTls
from ops.context import NewCertificate
from ops.system_records import put_record
from ops.system_tables import SYSTEM, ensure_system_tables
from storage.catalog import Catalog, open_catalog
from storage.settings import StorageSettings
from storage.write_transaction import WriteTransaction

NODES = "hdb_nodes"


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateNode:
    name: str
    keys: Path
    catalog: Catalog
    source: CertificateSource
    store: CertificateStore
    url_host: str | None

    def tls(self, *, trusts_public_roots: bool = False) -> ReplicationTls:
        return ReplicationTls(
            self.source.pairs,
            self.source.authorities_for_peers,
            node=self.name,
            look=self.source.look_for_peers,
            trusts_public_roots=trusts_public_roots,
        )

    @property
    def own(self) -> x509.Certificate:
        return read_certificates(self.keys).chain[0]

    @property
    def own_authority_pem(self) -> str:
        return pem_of(read_certificates(self.keys).authority)

    def row(self, name: str) -> Row:
        return next(row for row in self.store.rows() if row["name"] == name)

    def names(self) -> list[str]:
        return [row["name"] for row in self.store.rows()]

    async def add(self, certificate: str, **fields: Any) -> str:
        new = NewCertificate(certificate=certificate, is_authority=fields.pop("is_authority", False), **fields)
        return await self.store.add(new, user="admin")

    async def trust(self, authority_pem: str, name: str) -> None:
        await self.add(authority_pem, is_authority=True, name=name)

    async def put_peer(self, name: str, ca: Any) -> None:
        def put(tx: WriteTransaction) -> None:
            put_record(tx, tx.table(NODES), {"name": name, "ca": ca})

        await self.catalog.write(SYSTEM, put)

    async def sign_with(self, signer: "CertificateNode") -> None:
        """What a join does: a request of this node, signed over there, accepted here."""
        request = await self.store.create_csr()
        signed = await signer.store.sign(request.pem, for_node=self.name, url_host=self.url_host)
        await self.store.accept_signed(signed.certificate_pem, signed.authority_pem)


@asynccontextmanager
async def open_certificate_node(
    path: Path, name: str = "n1", *, configured: Iterable[ConfiguredFiles] = (), url_host: str | None = None
) -> AsyncIterator[CertificateNode]:
    """As a node is after its start."""
    keys = path / "keys"
    ensure_certificates(keys, node=name)
    settings = StorageSettings(path=path / "database", map_size_bytes=1 << 28, sync=False)
    async with open_catalog(settings, node=name) as catalog:
        await ensure_system_tables(catalog)
        source = CertificateSource(catalog, keys=keys, node=name, configured=configured)
        await source.load_files()
        store = CertificateStore(catalog, source, hosts=() if url_host is None else (url_host,))
        yield CertificateNode(name=name, keys=keys, catalog=catalog, source=source, store=store, url_host=url_host)


def chain_of(issued: trustme.LeafCert) -> str:
    return "".join(blob.bytes().decode() for blob in issued.cert_chain_pems)


def key_of(issued: trustme.LeafCert) -> str:
    return issued.private_key_pem.bytes().decode()


def pem_of_key(key: PrivateKeyTypes) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
