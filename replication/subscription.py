"""What a subscriber takes of a database: which tables. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from storage import codec
from storage.entry import Entry

Mode: TypeAlias = Literal["all", "only", "except"]
MODES: Final[Mapping[Any, Mode]] = {"all": "all", "only": "only", "except": "except"}


@dataclass(frozen=True, slots=True)
class TableSelection:
    """``only`` these tables, all ``except`` these, or ``all``."""

    mode: Mode = "all"
    names: frozenset[str] = frozenset()

    def takes(self, table: str) -> bool:
        match self.mode:
            case "all":
                return True
            case "only":
                return table in self.names
            case "except":
                return table not in self.names

    def select(self, entry: Entry) -> bytes | None:
        """The payload that a subscriber of this selection gets of ``entry``: the whole one (the same object), one with
        fewer writes, or None where nothing of it is wanted. Marks are for everybody.
        """
        if self.mode == "all" or entry.header.kind not in ("tx", "schema"):
            return entry.payload
        writes = entry.writes()
        wanted: list[Mapping[str, Any]] = [write for write in writes if self.takes(write["t"])]
        if len(wanted) == len(writes):
            return entry.payload
        return codec.encode(wanted) if wanted else None


EVERY_TABLE: Final = TableSelection()
