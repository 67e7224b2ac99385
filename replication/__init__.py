"""Moves commit logs between nodes.

What a node needs for it is in place below: entries that are relayed byte for byte, positions that move in the commit
of what they cover, and merging by stamps. The protocol, its transport and membership come with the first cluster
release.
"""
