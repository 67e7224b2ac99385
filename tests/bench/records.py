"""The records of the benchmarks: ten attributes of usual kinds, made from a number so that every run loads the same."""

import random
from typing import Any

KINDS = ("goat", "sheep", "donkey", "otter", "crane")
GROUPS = 220
"""Records per value of ``group``: what a condition search on it returns."""


def make_record(number: int) -> dict[str, Any]:
    generator = random.Random(number)
    return {
        "id": number,
        "name": f"Animal {generator.randrange(10**6)}",
        "kind": KINDS[number % len(KINDS)],
        "group": number // GROUPS,
        "weight": round(generator.random() * 200, 2),
        "score": generator.randrange(10**7),
        "city": f"City {generator.randrange(3000)}",
        "is_tame": number % 3 == 0,
        "note": f"seen near the river on day {generator.randrange(365)}",
        "batch": number // 10_000,
    }
