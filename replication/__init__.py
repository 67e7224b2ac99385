"""Moves commit logs between nodes, merges what arrives, and keeps who belongs to whom.

Knows nothing of users, HTTP or processes: what a peer asks for is handed to a ``Handler``, who may come in is decided by a
``Policy`` and checks that the node hands in. It elects no leader and orders nothing: every node takes writes, and equal
sets of entries give equal tables.

What must stay true:

- Positions move in the commit of what they cover. Per origin nothing is skipped that another member might need.
- Entries, stamps and origins never change on their way. A copy merges; it never replaces.
- Acknowledged means durable there. A status never claims more than was seen.
- Memory is bounded by the credit that was given out, never by how far a peer is behind.
- Nothing a peer sends is read before it is known who it is; all of it is bounded and checked.

In reading order:

- what travels: ``messages`` and ``fields``, ``wire``; ``connection`` (what is asked of a network), ``websocket``,
  ``upgrade``, ``transport``, ``tcp_ports``, ``dialer``, ``listener``
- one connection: ``session`` (greeting, liveness), ``link`` (its tasks), ``remote_calls`` (operations over it)
- one database: ``replica`` (what its streams share), ``subscription``, ``outbound`` and ``stream_out`` (the publisher),
  ``stream_in``, ``intake`` and ``credit`` (the subscriber), ``copy_out`` and ``copy_in``, ``fork`` and ``fork_watch``,
  ``marking`` and ``retention_rules``, ``confirmation``, ``backlog``
- who, and what with whom: ``identity``, ``admission``, ``membership``, ``membership_changes``, ``agreements``, ``routes``,
  ``start_time``, ``wanted_links``, ``policy``, ``membership_watch``, ``join_order``, ``residency``
- all of it: ``supervisor`` keeps the links, ``cluster`` is the layer as the operations see it
- is it so: ``table_digests`` and ``replica_pair`` (with ``replica_sides``, ``replica_answers``, ``replica_comparison``)
  hold replicas against each other; ``figures`` and ``link_status`` show the links

Ideas and roads not taken: ``DESIGN.md``.
"""
