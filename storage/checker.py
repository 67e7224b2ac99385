"""Walks a database and names every invariant that does not hold: tests end with it, ``logmesh verify`` calls it.

Derives everything anew from what is stored, by code that shares nothing with the writers but the formats themselves:

- ``check_layout``: what ``meta``, tables and the pool of sub-databases say of each other;
- ``check_log``: log entries by themselves, chained per origin, and folded against the rows;
- ``check_rows``: rows and tombstones by themselves, against indexes, expiry order, digests and log.

It reads one snapshot, so a running node may go on writing; that snapshot keeps LMDB from reusing pages, so the file
of a busy database grows while it is checked. Nothing is changed, no counter is raised. Memory is bounded but for
three things: the schema, one ``lseq`` per reduced entry, and one key per record that the log knows and its table does
not.
"""

import logging
from pathlib import Path

import lmdb

from storage.check_layout import check_layout
from storage.check_log import check_log
from storage.check_report import PROBLEMS_MAX, EnoughProblems, Problem, Report
from storage.check_rows import check_rows
from storage.check_snapshot import open_snapshot
from storage.clock import wall_clock
from storage.environment import Environment

__all__ = ["Problem", "check_database"]

log = logging.getLogger("storage")


def check_database(
    database: Path | Environment, *, problems_max: int = PROBLEMS_MAX, now_ms: int | None = None
) -> list[Problem]:
    """Every broken invariant found in a database's folder, of a stopped or running node, or in an open environment.

    What a process has open itself it must pass as an environment: LMDB forbids a second opening. ``now_ms`` decides
    what has expired. A damaged file is reported as a problem too; LMDB trusts its pages, so ``lmdb.verify`` may be
    wanted first for a file that something else than LMDB has written to.
    """
    report = Report(problems_max=problems_max)
    try:
        with open_snapshot(database, report, wall_clock() // 1000 if now_ms is None else now_ms) as snapshot:
            if snapshot is not None and check_layout(snapshot, report):
                check_rows(snapshot, report, check_log(snapshot, report))
    except EnoughProblems:
        log.warning("the check ended after %d problems", problems_max)
    except (lmdb.Error, OSError) as error:
        report.problems.append(Problem("file", None, None, str(error)))
    return report.problems
