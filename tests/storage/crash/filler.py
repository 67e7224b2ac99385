"""A process that fills its database until the system gives it no more room, and goes on once there is room again.

Usage: ``python -m tests.storage.crash.filler FOLDER ROOM_BYTES``. Prints one JSON object of what it saw. The limit on
the size of its files stands for the disk.
"""

import json
import resource
import sys
from pathlib import Path
from typing import Any

from storage.errors import DiskFull
from tests.storage.opened import Opened


def limit_files(size_bytes: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))


def fill(opened: Opened, first: int) -> int:
    """Write until it is refused; the key that was."""
    for key in range(first, first + 100_000):
        try:
            opened.put("dog", {"id": key, "text": str(key) * 300})
        except DiskFull:
            return key
    raise AssertionError("the room never ended")


def observe(folder: Path, room_bytes: int) -> dict[str, Any]:
    opened = Opened.at(folder, sync=True, map_size_bytes=1 << 30)
    opened.create_table("dog")
    limit_files(opened.environment.file_bytes() + room_bytes)
    first = fill(opened, 0)
    again = fill(opened, first)
    seen = {"refused": first, "ids_while_full": opened.ids("dog")}
    limit_files(resource.RLIM_INFINITY)
    opened.put("dog", {"id": again, "text": "now"})
    seen["ids_at_the_end"] = opened.ids("dog")
    opened.close()
    return seen


if __name__ == "__main__":
    print(json.dumps(observe(Path(sys.argv[1]), int(sys.argv[2]))))  # noqa: T201 - the answer of this process
