"""``system.hdb_certificate``: what this node shows of its certificates. The files in the keys folder are the truth."""

from typing import Any, Final

from node.certificates import NodeCertificates, certificate_rows
from ops.system_records import find_record, put_record
from ops.system_tables import SYSTEM
from storage.catalog import Catalog
from storage.write_transaction import WriteTransaction

CERTIFICATES: Final = "hdb_certificate"


async def store_certificates(catalog: Catalog, certificates: NodeCertificates, *, node: str) -> None:
    """Bring the table in line with the files. A start that finds nothing new writes nothing."""
    rows = certificate_rows(certificates, node=node)

    def store(tx: WriteTransaction) -> None:
        table = tx.table(CERTIFICATES)
        for row in rows:
            if not _is_stored(find_record(tx, table, row["name"]), row):
                put_record(tx, table, dict(row))

    await catalog.write(SYSTEM, store, is_local=True)


def _is_stored(stored: dict[str, Any] | None, row: dict[str, Any]) -> bool:
    return stored is not None and all(stored.get(name) == value for name, value in row.items())
