"""What the planner asks of a table's data, answered in one snapshot without reading rows."""

from itertools import islice

from storage.matching import Range
from storage.scan import stored_window
from storage.schema import Table
from storage.transaction import ReadTransaction


class TableStatistics:
    """Valid while ``tx`` is open. Counts include rows that have expired and wait for removal."""

    def __init__(self, tx: ReadTransaction, table: Table) -> None:
        self._tx = tx
        self._table = table

    @property
    def row_count(self) -> int:
        return self._entries(f"p{self._table.rows_id}")

    def entry_count(self, attribute: str) -> int:
        return self._entries(f"i{self._table.index_ids[attribute]}")

    def count(self, attribute: str, wanted: Range, at_most: int) -> int | None:
        is_key = attribute == self._table.primary_key
        name = f"p{self._table.rows_id}" if is_key else f"i{self._table.index_ids[attribute]}"
        window = stored_window(wanted, is_alone=True)
        with self._tx.txn.cursor(db=self._tx.environment.handles[name]) as cursor:
            if wanted.is_point:
                return (1 if is_key else int(cursor.count())) if cursor.set_key(window.low) else 0
            if not (cursor.set_range(window.low) if window.low else cursor.first()):
                return 0
            keys = list(islice(cursor.iternext(keys=True, values=False), at_most + 1))
        if len(keys) > at_most and keys[-1] < window.high:
            return None
        return sum(1 for key in keys if key < window.high)

    def extra_entries(self, attribute: str) -> int:
        """Counted with every write of an array: without it nobody knows how many records an index leads to."""
        number = self._table.index_ids[attribute].to_bytes(4)
        return int.from_bytes(self._tx.txn.get(number, default=b"", db=self._tx.environment.handles["extras"]))

    def _entries(self, name: str) -> int:
        return int(self._tx.txn.stat(self._tx.environment.handles[name])["entries"])
