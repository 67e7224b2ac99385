"""Benchmarks: the whole node over HTTP as a client sees it, and the storage layer beside raw LMDB. See
``scripts/bench``.
"""
