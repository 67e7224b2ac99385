"""Checks marks: what entries of the log say, and what is noted of the newest one of each node."""

from collections.abc import Mapping

from storage.check_report import Report
from storage.check_snapshot import Snapshot
from storage.entry import Entry
from storage.errors import Corrupt
from storage.marks import MARK_KEY, Mark, decode_mark


def check_mark_entry(entry: Entry, report: Report) -> None:
    if entry.previous or entry.conflicts:
        report.add("mark", "a mark has links, as if it wrote something", key=entry.lseq)
    try:
        decode_mark(entry.payload)
    except Corrupt as error:
        report.add("mark", str(error), key=entry.lseq)


def check_noted_marks(snapshot: Snapshot, logged: Mapping[str, int], report: Report) -> None:
    """``logged``: by node, the time of its newest mark in the log. What is noted is no older, and has been applied."""
    ends = {position.origin: position.oseq for position in snapshot.positions.values()}
    noted: dict[str, int] = {}
    for key, data in snapshot.items("meta"):
        if not key.startswith(MARK_KEY):
            continue
        node = key[len(MARK_KEY) :].decode(errors="replace")
        try:
            mark = Mark.decoded(node, data)
        except Corrupt as error:
            report.add("mark", str(error))
            noted[node] = logged.get(node, 0)
            continue
        noted[node] = mark.ts
        if mark.oseq > ends.get(mark.origin, 0):
            report.add("mark", f"that of '{node}' is ahead of the position of its origin", key=mark.oseq)
    for node, ts in logged.items():
        if noted.get(node, -1) < ts:
            report.add("mark", f"the newest one of '{node}' in the log is not noted", key=ts)
