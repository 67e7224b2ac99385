"""The operations API: one JSON, CBOR or MessagePack object in, one answer out.

An operation is a value (``operation``), declared in a file of ``sections``, named on one page (``reference``).
``dispatch`` takes a request's bytes to an answer's bytes and knows no server; ``http_server`` brings requests to it,
most of them through ``fast_lane``. Imports nothing of the process it runs in: what it needs of that it is handed
(``context.Services``).
"""
