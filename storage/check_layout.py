"""Checks what a database says of itself: format, identity, tables, and which sub-database belongs to what."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from storage import codec
from storage.check_report import Report
from storage.check_snapshot import Snapshot
from storage.environment import FORMAT
from storage.errors import Corrupt
from storage.schema import Table
from storage.transaction import HIDDEN_KEY

_KINDS: Final = ("p", "i")


def check_layout(snapshot: Snapshot, report: Report) -> bool:
    """Report what is wrong; whether rows and log can be looked at at all."""
    if snapshot.get("meta", b"format") != str(FORMAT).encode():
        report.add("meta", f"the format is not {FORMAT}")
        return False
    _check_identity(snapshot, report)
    _check_definitions(snapshot, report)
    _check_pool(snapshot, report)
    _check_table_ids(snapshot, report)
    missing = [name for table in snapshot.tables.values() for name in used_by(table) if name not in snapshot.handles]
    for name in missing:
        report.add("pool", "a table uses this sub-database, which does not exist", key=name)
    return not missing


def used_by(table: Table) -> list[str]:
    """Names of the sub-databases of a table."""
    return [f"p{table.rows_id}", f"p{table.tombstones_id}", *(f"i{number}" for number in table.index_ids.values())]


def _check_identity(snapshot: Snapshot, report: Report) -> None:
    store = (snapshot.get("meta", b"store") or b"").decode()
    if all(position.origin.store != store for position in snapshot.positions.values()):
        report.add("meta", f"the own incarnation '{store}' is not among the origins")


def _check_definitions(snapshot: Snapshot, report: Report) -> None:
    for name, count in Counter(table.name for table in snapshot.tables.values()).items():
        if count > 1:
            report.add("table", f"{count} tables have this name", table=name)
    for table in snapshot.tables.values():
        attributes = table.definition.attributes
        for name, count in Counter(attribute.name for attribute in attributes).items():
            if count > 1:
                report.add("table", f"attribute '{name}' is declared {count} times", table=table.name)
        wanted = {a.name for a in attributes if not a.is_primary_key and (a.indexed or a.expires_at)}
        for name in sorted(wanted ^ table.index_ids.keys()):
            what = "has no index" if name in wanted else "has an index that nothing declares"
            report.add("table", f"attribute '{name}' {what}", table=table.name)


def _check_pool(snapshot: Snapshot, report: Report) -> None:
    """Every numbered sub-database is used by one table or free and empty, never both, and below the next number."""
    pool = _pool(snapshot, report)
    uses = Counter(name for table in snapshot.tables.values() for name in used_by(table))
    for name, count in uses.items():
        if count > 1:
            report.add("pool", f"{count} tables or indexes use this sub-database", key=name)
    for kind in _KINDS:
        last, free = pool[kind]
        for number, count in Counter(free).items():
            name = f"{kind}{number}"
            if count > 1:
                report.add("pool", "this sub-database is free more than once", key=name)
            if name in uses:
                report.add("pool", "this sub-database is both used and free", key=name)
            elif name not in snapshot.handles:
                report.add("pool", "this free sub-database does not exist", key=name)
            elif snapshot.entry_count(name):
                report.add("pool", "this free sub-database is not empty", key=name)
        for number in _numbers(snapshot, kind):
            if f"{kind}{number}" not in uses and number not in free:
                report.add("pool", "this sub-database is neither used nor free", key=f"{kind}{number}")
            if number > last:
                message = f"this sub-database has a number above the last one given out, {last}"
                report.add("pool", message, key=f"{kind}{number}")
    for table in snapshot.tables.values():
        if table.id > pool["table"][0]:
            report.add("pool", f"table id {table.id} is above the last one given out", table=table.name)


def _pool(snapshot: Snapshot, report: Report) -> dict[str, list[Any]]:
    data = snapshot.get("meta", b"pool")
    empty: dict[str, list[Any]] = {"p": [0, []], "i": [0, []], "table": [0]}
    try:
        return empty if data is None else {**empty, **codec.decode(data)}
    except (Corrupt, TypeError) as error:
        report.add("pool", f"it cannot be read: {error}")
        return empty


def _numbers(snapshot: Snapshot, kind: str) -> Iterator[int]:
    for name in snapshot.handles:
        if name.startswith(kind) and name[1:].isdigit():
            yield int(name[1:])


def _check_table_ids(snapshot: Snapshot, report: Report) -> None:
    """What is kept by table id belongs to a table that is there."""
    for handle in ("digests", "sequences"):
        for key, _ in snapshot.items(handle):
            if int.from_bytes(key) not in snapshot.tables:
                report.add(handle.removesuffix("s"), "there is no table with this id", key=int.from_bytes(key))
    for key, _ in snapshot.items("meta"):
        if key.startswith(HIDDEN_KEY) and int.from_bytes(key[len(HIDDEN_KEY) :]) not in snapshot.tables:
            report.add("meta", "history is hidden of a table that is not there", key=key)
