"""What a check of a database says: problems, up to a bound."""

from dataclasses import dataclass, field
from typing import Final

PROBLEMS_MAX: Final = 1000
"""A walk ends here: who has that many needs a copy or a backup, not a longer list."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One broken invariant. ``kind`` is a short stable word; ``key`` the stored key or number it was found at, as
    text.
    """

    kind: str
    table: str | None
    key: str | None
    message: str

    def __str__(self) -> str:
        place = " ".join(part for part in (self.kind, self.table, self.key and f"[{self.key}]") if part)
        return f"{place}: {self.message}"


class EnoughProblems(Exception):
    """The list is full."""


@dataclass(slots=True)
class Report:
    problems: list[Problem] = field(default_factory=list)
    problems_max: int = PROBLEMS_MAX

    def add(self, kind: str, message: str, *, table: str | None = None, key: bytes | int | str | None = None) -> None:
        """Raises ``EnoughProblems`` once the list is full."""
        shown = key.hex() if isinstance(key, bytes) else None if key is None else str(key)
        self.problems.append(Problem(kind, table, shown, message))
        if len(self.problems) >= self.problems_max:
            raise EnoughProblems
