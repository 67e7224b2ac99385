"""The sample records that the documented examples of searches and writes are about."""

from typing import Any

ANIMALS: list[dict[str, Any]] = [
    {
        "id": 1,
        "name": "Bella",
        "kind": "goat",
        "weight": 41.5,
        "pen_id": 10,
        "tags": ["milk", "calm"],
        "tame": True,
        "info": {"chip": "A1", "born": {"y": 2019}},
    },
    {"id": 2, "name": "Otis", "kind": "donkey", "weight": 180, "pen_id": 11, "tags": ["calm"], "tame": True},
    {"id": 3, "name": "Fern", "kind": "goat", "weight": 38, "pen_id": 10, "tame": False},
    {"id": 4, "name": "Hazel", "kind": "sheep", "weight": None, "pen_id": 12},
    {"id": 5, "name": "ozzy", "kind": "goat", "pen_id": None, "tags": []},
]
