"""What a node does when its own numbers were used twice: a copied disk, writes after an unnoticed step back in time.

Two logs agree up to a position and say different things above it. The node whose numbers they are gives way. In one
transaction it begins a new life, and goes back to that position with the old one (``leave_branch``): from then on it
takes the old one's entries from peers, like those of any origin. What only its own log holds must not be lost, nor can
it be sent under its old numbers. So every row and tombstone of it is restated, by own entries of the new life, with
the stamps that they have (``restate_step``). Until that is done nothing of the old life may be applied, and no copy be
merged: a position would claim that a row is covered which nobody else has.
"""

from typing import Final, NamedTuple

from storage.abandoned import Branch, Place, fork_key, read_branches
from storage.commit_log import Position
from storage.entry import Origin
from storage.marks import Mark, mark_key
from storage.record import decode_row
from storage.schema import Table
from storage.write_state import WriteState
from storage.write_transaction import WriteTransaction

STEP_ROWS: Final = 1000
"""Rows looked at in one LMDB transaction: a few milliseconds that client writes wait."""
STEP_BYTES: Final = 1 << 20
"""Restated bytes after which a step, and so its entry, takes no more rows."""


class Restated(NamedTuple):
    """What one step did."""

    rows: int
    is_done: bool


def branches_of(state: WriteState) -> dict[int, Branch]:
    with state.cursor("meta") as cursor:
        return read_branches(cursor)


def leave_branch(state: WriteState, origin: Origin, *, base: int, chain: bytes, judged_at: int) -> bool:
    """Go back to position ``base`` of ``origin``, an own life, whose chain digest there is ``chain``; whether that was
    to be done: a life forks once, and where there is no entry above ``base`` it has not.

    ``judged_at``: our position when the fork was found. An old life that has moved since has to be judged anew, as
    what moved it came from others.
    """
    environment = state.environment
    position = state.find_position(origin)
    if origin.node != environment.origin.node or position is None or base >= position.oseq:
        return False
    origin_id = state.origin_id(origin)
    if origin_id in branches_of(state):
        return False
    if origin != environment.origin and position.oseq != judged_at:
        return False
    if origin == environment.origin:
        state.begin_incarnation(environment.settings.new_store_id())
    state.set_position(origin_id, Position(origin, base, chain, min(position.floor, base)))
    state.put("meta", fork_key(origin_id), Branch(base, state.lseq, Place()).encoded())
    _forget_mark(state, origin, base)
    return True


def _forget_mark(state: WriteState, origin: Origin, base: int) -> None:
    """A mark of this node above the base was never heard of elsewhere."""
    key = mark_key(origin.node)
    data = state.get("meta", key)
    if data is not None:
        mark = Mark.decoded(origin.node, data)
        if mark.origin == origin and mark.oseq > base:
            state.delete("meta", key)


def restate_step(state: WriteState, *, now_us: int, limit: int | None = None) -> Restated:
    """Restate some more of what branches that were left wrote; done when there is nothing more to do."""
    for origin_id, branch in branches_of(state).items():
        if branch.place is not None:
            return _Step(state, origin_id, branch, limit or STEP_ROWS).run(branch.place, now_us)
    return Restated(0, True)


class _Step:
    """One step through the rows of the database, in the order of table ids and stored keys."""

    def __init__(self, state: WriteState, origin_id: int, branch: Branch, limit: int) -> None:
        self._state = state
        self._origin_id = origin_id
        self._branch = branch
        self._room = limit
        self._room_bytes = STEP_BYTES
        self._found: list[tuple[Table, bytes]] = []

    def run(self, place: Place, now_us: int) -> Restated:
        following = self._walk(place)
        self._restate(now_us)
        left = self._branch._replace(place=following)
        self._state.put("meta", fork_key(self._origin_id), left.encoded())
        return Restated(len(self._found), False)

    def _walk(self, place: Place) -> Place | None:
        """Collect what is to be restated; where to go on, None at the end."""
        for table in sorted(self._state.tables.values(), key=lambda table: table.id):
            for is_in_tombstones, number in ((False, table.rows_id), (True, table.tombstones_id)):
                here = (table.id, is_in_tombstones)
                if here < place[:2]:
                    continue
                last = self._scan(table, f"p{number}", place.key if here == place[:2] else b"")
                if last is not None:
                    return Place(*here, last)
        return None

    def _scan(self, table: Table, handle: str, after: bytes) -> bytes | None:
        """Look at what stands behind ``after``; the last key where this step is full."""
        with self._state.cursor(handle) as cursor:
            if not (cursor.set_range(after) if after else cursor.first()):
                return None
            for key, data in cursor:
                if key == after:
                    continue
                self._room -= 1
                row = decode_row(data)
                origin_id, oseq = row.by or (row.origin, row.oseq)
                if origin_id == self._origin_id and oseq > self._branch.base:
                    self._found.append((table, bytes(key)))
                    self._room_bytes -= len(data)
                if self._room <= 0 or self._room_bytes <= 0:
                    return bytes(key)
        return None

    def _restate(self, now_us: int) -> None:
        transaction = WriteTransaction(self._state, user=None, operation=None, now_us=now_us)
        for table, stored_key in self._found:
            transaction.restate(table, stored_key)
        transaction.seal()
        transaction.apply()
