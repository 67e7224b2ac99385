"""Files that live as long as one request or job, in the folder ``tmp`` of the node's root.

A file that is to be sent is unlinked as soon as it is open: its disk space comes back when the stream is closed or
forgotten, however its connection ends. What a crash leaves behind is removed at the next start.
"""

import shutil
import uuid
import zlib
from pathlib import Path
from typing import IO, Final, Self

import trio

FOLDER: Final = "tmp"
CHUNK_BYTES: Final = 256 << 10
GZIP: Final = 16 + zlib.MAX_WBITS
"""What tells zlib to write gzip's frame."""


def new_path(root: Path, kind: str) -> Path:
    """Where a new temporary file may be made; ``kind`` begins its name."""
    folder = root / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder / f"{kind}-{uuid.uuid4().hex}"


def remove_leftovers(root: Path) -> None:
    """Empty the folder. For the start of a node: nobody uses these files then."""
    folder = root / FOLDER
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def open_unlinked(path: Path) -> IO[bytes]:
    """The file, open for reading, and nobody else's from now on."""
    file = open(path, "rb", buffering=0)  # noqa: SIM115 - its stream closes it
    path.unlink()
    return file


class SentFile:
    """The bytes of an open file, compressed on request, for ``async for``. Reads and compresses in a worker thread.

    Closes the file behind its last byte. An asynchronous generator would do as well while it is read to its end; this
    frees the disk also when nobody ever asks for the first chunk.
    """

    def __init__(self, file: IO[bytes], *, compresses: bool) -> None:
        self._file = file
        self._compressor = zlib.compressobj(wbits=GZIP) if compresses else None

    def __del__(self) -> None:
        self._file.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._file.closed:
            raise StopAsyncIteration
        return await trio.to_thread.run_sync(self._next_chunk)

    def _next_chunk(self) -> bytes:
        """Some bytes; behind the last of them the compressor's rest, which may be none."""
        while data := self._file.read(CHUNK_BYTES):
            chunk = data if self._compressor is None else self._compressor.compress(data)
            if chunk:
                return chunk
        self._file.close()
        return b"" if self._compressor is None else self._compressor.flush()
