"""What ``"replicated": true`` adds to an answer: the answers of the other nodes to the same operation.

A node without peers asks nobody and says so with an empty list; the operation itself has been carried out here.
"""

from typing import Any


def with_answers_of_peers(message: str, *, replicated: bool) -> dict[str, Any]:
    """The whole answer of an operation that was carried out here with ``message``."""
    answer: dict[str, Any] = {"message": message}
    if replicated:
        answer["replicated"] = []
    return answer
