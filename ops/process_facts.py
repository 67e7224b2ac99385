"""The node's own processes for ``system_information``, without what their command lines say in confidence."""

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import psutil

_SECRET_NAME: Final = re.compile(r"passw|secret|token|credential", re.IGNORECASE)
_HIDDEN: Final = "***"
_NEUTRAL_PRIORITY: Final = 20


def process_facts(pids: Iterable[int]) -> dict[str, Any]:
    """``core``: one entry per process that still runs. Sizes in bytes, shares in percent since the process began."""
    return {"core": [facts for facts in map(_facts, pids) if facts is not None]}


def _facts(pid: int) -> dict[str, Any] | None:
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            return _describe(process)
    except psutil.NoSuchProcess:
        return None


def _describe(process: Any) -> dict[str, Any]:
    command, *params = hide_secrets(process.cmdline()) or [process.name()]
    began_s = process.create_time()
    alive_s = max(time.time() - began_s, 0.01)
    times = process.cpu_times()
    memory = process.memory_info()
    nice = process.nice()
    return {
        "pid": process.pid,
        "parentPid": process.ppid(),
        "name": process.name(),
        "cpu": round((times.user + times.system) / alive_s * 100, 2),
        "cpuu": round(times.user / alive_s * 100, 2),
        "cpus": round(times.system / alive_s * 100, 2),
        "mem": round(process.memory_percent(), 2),
        "priority": _NEUTRAL_PRIORITY + nice,
        "memVsz": memory.vms,
        "memRss": memory.rss,
        "nice": nice,
        "started": datetime.fromtimestamp(began_s, UTC).strftime("%Y-%m-%d %H:%M:%S"),
        "state": process.status(),
        "tty": process.terminal() or "",
        "user": process.username(),
        "command": command,
        "params": " ".join(params),
        "path": _path_of(process),
    }


def _path_of(process: Any) -> str:
    try:
        return str(process.exe())
    except psutil.AccessDenied:
        return ""


def hide_secrets(arguments: Sequence[str]) -> list[str]:
    """Arguments with the values of those whose names speak of a secret replaced: ``--X value`` and ``X=value``."""
    return list(_hidden(arguments))


def _hidden(arguments: Sequence[str]) -> Iterator[str]:
    is_secret_next = False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if is_secret_next:
            is_secret_next = False
            yield _HIDDEN
        elif equals and _SECRET_NAME.search(name):
            yield f"{name}={_HIDDEN}"
        else:
            is_secret_next = argument.startswith("-") and not equals and _SECRET_NAME.search(name) is not None
            yield argument
