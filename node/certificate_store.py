"""The certificates of a node, as the operations and the join change them.

Keys come before rows: a row is written when its key is on disk, and a key goes when no row needs it any more. One
change runs at a time, so that no key is taken for free that another change is about to name.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from ssl import PROTOCOL_TLS_SERVER, SSLContext, SSLError
from typing import Any, Final, cast

import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from node.certificate_files import (
    PEM_BYTES_MAX,
    Unusable,
    is_issued_by,
    is_key_of,
    parse_chain,
    parse_key,
    pem_of,
    read_key,
)
from node.certificate_issuing import PrivateKey
from node.certificate_pairs import CertificatePair, anchor_of, certificates_in, choose
from node.certificate_rows import Row, default_name, names_in, row_of
from node.certificate_signing import SigningRules, make_request, may_sign, sign_request, spelling
from node.certificate_source import CertificateSource
from node.certificate_table import CERTIFICATES
from node.certificates import AUTHORITY_KEY, KEY, is_generated
from node.key_files import sanitized_name
from ops.context import NewCertificate, SignedCertificate, SigningRequest
from ops.errors import InvalidParams, OperationError
from ops.system_records import delete_record, find_key, find_record, put_record
from ops.system_tables import SYSTEM
from storage.catalog import Catalog
from storage.database import WriteFunction
from storage.write_transaction import WriteTransaction

NO_KEY: Final = "A suitable private key was not found for this certificate"
WRONG_KEY: Final = "The private key does not match the certificate"
NO_NAME: Final = "Error extracting certificate host name, please provide a name parameter"
REPLICATION_USES: Final = ("replication",)


class CertificateStore:
    """``ops.context.Certificates``."""

    def __init__(self, catalog: Catalog, source: CertificateSource, *, hosts: Sequence[str] = ()) -> None:
        """``hosts`` are further ones that this node is reached as: that of its URL."""
        self._catalog = catalog
        self._source = source
        self._hosts = tuple(hosts)
        self._changing = trio.Lock()

    def rows(self) -> list[Row]:
        return self._source.rows()

    async def add(self, new: NewCertificate, *, user: str | None) -> str:
        async with self._changing:
            row = await trio.to_thread.run_sync(self._prepare, new)
            before = await self._write(partial(_upsert, row), user=user, operation="add_certificate")
            if before is not None:
                await self._remove_unused_key(before.get("private_key_name"))
        return sanitized_name(row["name"])

    async def remove(self, name: str, *, user: str | None) -> None:
        def delete(tx: WriteTransaction) -> Row:
            table = tx.table(CERTIFICATES)
            known = find_record(tx, table, name)
            if known is None:
                raise InvalidParams(f"{name} not found")
            delete_record(tx, table, name)
            return known

        async with self._changing:
            removed = await self._write(delete, user=user, operation="remove_certificate")
            await self._remove_unused_key(removed.get("private_key_name"))

    async def create_csr(self) -> SigningRequest:
        return await trio.to_thread.run_sync(self._make_request)

    async def sign(
        self,
        csr_pem: str,
        *,
        for_node: str | None = None,
        url_host: str | None = None,
        may_take_over: bool = False,
        others: Iterable[str] = (),
    ) -> SignedCertificate:
        rules = SigningRules(
            for_node=for_node,
            url_host=url_host,
            others=frozenset(map(spelling, (*others, self._source.node))),
            may_take_over=may_take_over,
        )
        return await trio.to_thread.run_sync(self._sign, csr_pem, rules)

    async def authority_pem(self) -> str:
        return await trio.to_thread.run_sync(self.authority_pem_now)

    def authority_pem_now(self) -> str:
        """Blocks for reading."""
        return pem_of(anchor_of(self._shown_to_peers()))

    async def needs_signature(self) -> bool:
        pair = await trio.to_thread.run_sync(self._shown_to_peers)
        is_of_own_authority = pair.is_generated and is_generated(pair.leaf)
        return is_of_own_authority or self._source.node.lower() not in names_in(pair.leaf)

    async def accept_signed(self, certificate_pem: str, authority_pem: str) -> None:
        chain, authority = await trio.to_thread.run_sync(self._check_signed, certificate_pem, authority_pem)
        leaf_row = {
            **row_of(chain, name=f"{self._source.node}-replication", is_authority=False),
            "private_key_name": KEY,
            "uses": list(REPLICATION_USES),
        }

        def store(tx: WriteTransaction) -> None:
            table = tx.table(CERTIFICATES)
            _put_authority(tx, authority)
            put_record(tx, table, leaf_row)

        async with self._changing:
            await self._write(store, user=None, operation="add_node")

    # -- adding -----------------------------------------------------------------------------------------------------

    def _prepare(self, new: NewCertificate) -> Row:
        """The row of a certificate that may be added, whose key is on disk then. Raises ``InvalidParams``."""
        chain = _parsed(new.certificate, f"Invalid certificate format for {new.name or 'the certificate'}")
        leaf = chain[0]
        key = None if new.private_key is None else _parsed_key(new.private_key, leaf)
        key_name = self._source.key_files.find_for(leaf.public_key())
        if key is None and key_name is None and not new.is_authority:
            raise InvalidParams(NO_KEY)
        name = new.name or default_name(leaf)
        if name is None:
            raise InvalidParams(NO_NAME)
        if find_key(name) is None:
            raise InvalidParams("'name' cannot be the name of a certificate")
        if new.ciphers is not None:
            _check_ciphers(new.ciphers)
        if key_name is None and key is not None:
            key_name = self._source.key_files.store(name, key)
        optional = {"private_key_name": key_name, "hosts": new.hosts, "uses": new.uses, "ciphers": new.ciphers}
        row = row_of(chain, name=name, is_authority=new.is_authority)
        return row | {field: value for field, value in optional.items() if value is not None}

    async def _remove_unused_key(self, name: str | None) -> None:
        if name is not None and all(row.get("private_key_name") != name for row in self.rows()):
            await trio.to_thread.run_sync(self._source.key_files.remove, name)

    async def _write(self, function: WriteFunction, *, user: str | None, operation: str) -> Any:
        return await self._catalog.write(SYSTEM, function, user=user, operation=operation, is_local=True)

    # -- signing ----------------------------------------------------------------------------------------------------

    def _make_request(self) -> SigningRequest:
        node = self._source.node
        pem = make_request(self._own_key(), node=node, hosts=self._hosts)
        return SigningRequest(pem=pem, private_key_name=KEY)

    def _own_key(self) -> PrivateKey:
        try:
            key = read_key(self._source.keys / KEY)
        except (Unusable, OSError) as error:
            raise OperationError(f"The private key of this node cannot be read: {error}", status=500) from error
        if key is None:
            raise OperationError("This node has no private key yet", status=500)
        return cast(PrivateKey, key)

    def _sign(self, csr_pem: str, rules: SigningRules) -> SignedCertificate:
        now = datetime.now(UTC)
        authority, key = self._signing_authority(now)
        signed = sign_request(csr_pem, rules, authority=authority, authority_key=key, now=now)
        return SignedCertificate(certificate_pem=pem_of(signed), authority_pem=pem_of(authority))

    def _signing_authority(self, now: datetime) -> tuple[x509.Certificate, PrivateKey]:
        """One that an operator added before the generated one, the latest of several."""
        found = []
        for row in self.rows():
            if not row.get("is_authority"):
                continue
            is_generated_here = bool(row.get("is_self_signed"))
            key_name = AUTHORITY_KEY if is_generated_here else row.get("private_key_name")
            try:
                authority = certificates_in(row)[0]
                if key_name is not None and may_sign(authority, now):
                    key_pem = self._source.key_files.read_for(key_name, authority)
                    found.append((not is_generated_here, authority.not_valid_before_utc, authority, key_pem))
            except (Unusable, OSError):
                continue
        if not found:
            raise OperationError("This node has no certificate authority with a private key", status=500)
        _, _, authority, key_pem = max(found, key=lambda one: one[:2])
        return authority, cast(PrivateKey, parse_key(key_pem, "the authority's key"))

    # -- what peers see ---------------------------------------------------------------------------------------------

    def _shown_to_peers(self) -> CertificatePair:
        pairs = self._source.pairs()
        if not pairs:
            raise OperationError("Unable to find a certificate to use for replication", status=500)
        return choose(pairs, "replication", node=self._source.node, now=datetime.now(UTC))[0]

    def _check_signed(
        self, certificate_pem: str, authority_pem: str
    ) -> tuple[list[x509.Certificate], x509.Certificate]:
        """Is it what this node asked for? It came from a server that nobody has verified yet."""
        chain = _parsed(certificate_pem, "the signed certificate cannot be read")
        authority = _parsed(authority_pem, "the certificate of the signing authority cannot be read")[0]
        leaf, now = chain[0], datetime.now(UTC)
        if not is_key_of(self._own_key(), leaf):
            raise InvalidParams("the signed certificate is for another key than that of this node")
        if self._source.node.lower() not in names_in(leaf):
            raise InvalidParams(f"the signed certificate does not name '{self._source.node}'")
        if not (may_sign(authority, now) and is_issued_by(leaf, authority)):
            raise InvalidParams("the signed certificate does not come from the authority that was named")
        return chain, authority


def _upsert(row: Row, tx: WriteTransaction) -> Row | None:
    """What stood under the name before; fields that ``row`` lacks stay, but for those that speak of another key or of
    a file: from now on only a newer file replaces it.
    """
    table = tx.table(CERTIFICATES)
    known = find_record(tx, table, row["name"])
    kept = {name: value for name, value in (known or {}).items() if name not in ("private_key_name", "file_timestamp")}
    put_record(tx, table, kept | row)
    return known


def _put_authority(tx: WriteTransaction, authority: x509.Certificate) -> None:
    """Trust ``authority``. Another one that has its name, the node's own even, stays beside it."""
    table = tx.table(CERTIFICATES)
    fingerprint = authority.fingerprint(hashes.SHA256()).hex()[:8]
    name = default_name(authority) or fingerprint
    known = find_record(tx, table, name)
    if known is not None:
        if known.get("certificate") == pem_of(authority):
            return
        name = f"{name}-{fingerprint}"
    put_record(tx, table, row_of([authority], name=name, is_authority=True))


def _parsed(pem: str, problem: str) -> list[x509.Certificate]:
    data = pem.encode("utf-8", "replace")
    try:
        if len(data) <= PEM_BYTES_MAX:
            return parse_chain(data, problem)
    except Unusable:
        pass
    raise InvalidParams(problem)


def _parsed_key(pem: str, leaf: x509.Certificate) -> PrivateKeyTypes:
    data = pem.encode("utf-8", "replace")
    try:
        key = parse_key(data, "the private key") if len(data) <= PEM_BYTES_MAX else None
    except Unusable:
        key = None
    if key is None or not is_key_of(key, leaf):
        raise InvalidParams(WRONG_KEY)
    return key


def _check_ciphers(ciphers: str) -> None:
    try:
        SSLContext(PROTOCOL_TLS_SERVER).set_ciphers(ciphers)
    except (SSLError, ValueError) as error:
        raise InvalidParams("'ciphers' names no cipher that is known here") from error
