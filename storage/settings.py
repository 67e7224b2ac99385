"""Settings of the storage layer: read once, passed in."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


def random_store_id() -> str:
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageSettings:
    path: Path
    """Folder that holds one folder per database."""
    database_paths: Mapping[str, Path] = field(default_factory=dict)
    """Databases that are made in the folder of another path; one that is there already stays where it is."""
    map_size_bytes: int = 1 << 40
    """Address space reserved per database; the file grows only with its pages."""
    sync: bool = True
    """False skips disk syncs (``storage.writeAsync``): a power loss may take the newest acknowledged writes."""
    read_ahead: bool = True
    entry_bytes_max: int = 100_000_000
    """Largest payload of one transaction (``replication.maxPayload``): an entry travels in one frame."""
    clock_skew_us_max: int = 60_000_000
    """How far a foreign stamp may push this node's clock ahead of its wall clock."""
    queue_wait_s_max: float = 45.0
    """A write that would have to wait longer for its turn is refused (``storage.maxTransactionQueueTime``)."""
    audit_retention_s: float = 3 * 86400.0
    """Age at which the log's oldest entries may go."""
    sub_databases_max: int = 10_000
    """Rows, tombstones and indexes of all tables; fixed when an environment is opened."""
    readers_max: int = 512
    new_store_id: Callable[[], str] = random_store_id
    """Names a life of a database; handed in, so that a simulation can be repeated."""
