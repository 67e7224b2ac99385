"""One node's data: databases of tables, and the commit log that every write goes into.

Knows nothing of peers, users or HTTP; synchronous but for ``commit_queue`` and ``catalog``.

What must stay true:

- Rows, indexes, digests, counters and the log entry of a write are one LMDB commit.
- An ``lseq`` is never used again; an origin's ``oseq`` has no gaps; a stamp never changes, and one stamp means the same
  bytes on every node.
- A write is acknowledged, and an entry visible to readers, only once it is durable.
- No transaction or cursor lives across an ``await``.

In reading order: ``keys`` and ``codec`` (values as bytes), ``record`` and ``entry`` (what is stored), ``schema``,
``clock`` and ``merge`` (pure rules), ``environment``, ``transaction`` (reading), ``write_transaction``,
``table_planner`` and ``write_state`` (writing), ``database`` and ``commit_queue`` (group commit), ``catalog``; then
``table_writes``, ``planner`` and ``query`` (what requests mean), ``retention``, ``snapshot`` and ``checker``. What comes
from other nodes: ``received_entries`` (a stream) and ``copy_file`` with ``copy_merge`` (a copy), both over
``row_merge``.
"""
