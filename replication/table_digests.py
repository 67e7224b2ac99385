"""Do two replicas hold the same? Compared by the digest of each table, where both are at one vector.

Digests and vector are of one read transaction on either side, and cost nothing per entry: each commit keeps its own.
A table of which a side is known to lack rows says nothing, and no more does a database into which a copy is merged.
"""

from collections.abc import Collection, Mapping

from storage.copy_merge import read_merge_cursor
from storage.entry import Origin
from storage.transaction import ReadTransaction

Positions = Mapping[Origin, int]
Digests = Mapping[str, tuple[int, bytes]]
"""By table: how many rows are stored, and the digest of those that all replicas hold alike."""


def digests_of(tx: ReadTransaction) -> tuple[Positions, Digests] | None:
    """What a peer needs to compare, None while a copy is merged."""
    if read_merge_cursor(tx) is not None:
        return None
    digests = {
        table.name: (int(tx.txn.stat(tx.environment.handles[f"p{table.rows_id}"])["entries"]), tx.state_digest(table))
        for table in tx.schema().tables.values()
        if table.complete and not table.definition.is_local
    }
    return vector_of(tx), digests


def vector_of(tx: ReadTransaction) -> dict[Origin, int]:
    return {at.origin: at.oseq for at in tx.log.positions().values() if at.oseq}


def differing_tables(
    tx: ReadTransaction, positions: Positions, digests: Digests, *, left_out: Collection[str] = ()
) -> list[str] | None:
    """Tables that the peer holds otherwise; None where nothing can be compared now. ``left_out`` are not taken."""
    own = digests_of(tx)
    if own is None or own[0] != {origin: oseq for origin, oseq in positions.items() if oseq}:
        return None
    common = (own[1].keys() & digests.keys()) - set(left_out)
    return sorted(name for name in common if own[1][name][1] != digests[name][1])
