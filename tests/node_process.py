"""A real node as a process of its own: started as a user starts it, waited for by what it prints, always stopped."""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import httpx

READY = "logmesh is ready:"
START_S_MAX = 60.0
STOP_S_MAX = 30.0
_addresses = itertools.count(1)
_run_number = os.getpid() % 250 + 1


def free_address() -> str:
    """An address of the loopback range that no other node of this test run uses."""
    number = next(_addresses)
    return f"127.{100 + number // 250 % 100}.{_run_number}.{number % 250 + 1}"


class NodeProcess:
    """``with NodeProcess(root) as node: node.post(operation="describe_all")``."""

    username = "admin"
    password = "bench-Passw0rd"

    def __init__(
        self,
        root: Path,
        *,
        mode: str = "prod",
        options: Sequence[str] = (),
        address: str | None = None,
        ports: tuple[int, int] = (9924, 9925),
        password: str | None = password,
    ) -> None:
        self.root = root
        self.address = address or free_address()
        self._options = [
            *("--root-path", str(root), "--mode", mode),
            *("--set", f"operationsApi.network.port={self.address}:{ports[0]}"),
            *("--set", f"operationsApi.network.securePort={self.address}:{ports[1]}"),
            *options,
        ]
        self._password = password
        self.urls: list[str] = []
        self.output: list[str] = []
        self._process: subprocess.Popen[str] | None = None
        self._client: httpx.Client | None = None
        self._readiness = threading.Semaphore(0)

    def __enter__(self) -> "NodeProcess":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start and wait until it says that it is ready. Raises with its output when it ends instead."""
        environment = {**os.environ, "HDB_ADMIN_USERNAME": self.username, "PYTHONUNBUFFERED": "1"}
        if self._password is not None:
            environment["HDB_ADMIN_PASSWORD"] = self._password
        self._process = subprocess.Popen(
            [sys.executable, "-m", "node", "run", *self._options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            env=environment,
            cwd=Path(__file__).parent.parent,
        )
        self.urls, self.output = [], []
        watchdog = threading.Timer(START_S_MAX, self._process.kill)
        watchdog.start()
        try:
            self._wait_until_ready(self._process.stdout)
        finally:
            watchdog.cancel()
        threading.Thread(target=self._drain, args=(self._process.stdout,), daemon=True).start()
        self._client = httpx.Client(verify=False, timeout=120, auth=(self.username, self.password))

    def _wait_until_ready(self, stdout: IO[str] | None) -> None:
        assert stdout is not None
        for line in stdout:
            self.output.append(line)
            if line.startswith(READY):
                self.urls = line.removeprefix(READY).split()
                return
        raise RuntimeError("the node ended before it was ready:\n" + "".join(self.output))

    def wait_until_ready_again(self) -> None:
        """After a restart in place: the process says once more that it is ready."""
        assert self._readiness.acquire(timeout=START_S_MAX), "the node did not come back:\n" + "".join(self.output)

    def _drain(self, stdout: IO[str] | None) -> None:
        with contextlib.suppress(ValueError, OSError):
            for line in stdout or ():
                self.output.append(line)
                if line.startswith(READY):
                    self._readiness.release()

    def url(self, scheme: str = "https") -> str:
        return next(url for url in self.urls if url.startswith(scheme + "://"))

    def request(
        self, body: Any, *, scheme: str = "https", accept: str = "application/json", **options: Any
    ) -> httpx.Response:
        """The answer to an operation, whatever it is; ``auth=`` for another user than the administrator."""
        assert self._client is not None
        headers = {"content-type": "application/json", "accept": accept}
        content = body if isinstance(body, bytes) else json.dumps(body)
        return self._client.post(self.url(scheme), content=content, headers=headers, **options)

    def post(self, **body: Any) -> Any:
        """The decoded answer of an operation that has to succeed."""
        response = self.request(body)
        assert response.status_code == 200, f"{response.status_code}: {response.text}"
        return response.json()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end and wait; its exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._ended(STOP_S_MAX)

    def kill(self) -> None:
        """End it at once, as a crash would, if it still runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
        self._ended(STOP_S_MAX)

    def _ended(self, wait_s: float) -> int:
        assert self._process is not None
        code = self._process.wait(wait_s)
        if self._process.stdout:
            self._process.stdout.close()
        if self._client is not None:
            self._client.close()
        return code


@contextlib.contextmanager
def running_node(root: Path, **options: Any) -> Iterator[NodeProcess]:
    with NodeProcess(root, **options) as node:
        yield node
