"""gzip for large answers, where the client takes it (RFC 9110, section 12.5.3).

Small answers are sent as they are: compressing them costs more time than it saves on any network a cluster is built of.
"""

import re
import zlib
from collections.abc import AsyncIterator, Mapping
from typing import Final

COMPRESSED_FROM_BYTES: Final = 1 << 16
LEVEL: Final = 1
"""The fastest level takes record lists to about a seventh; higher ones gain little and cost several times as much."""
HEADERS: Final = (("content-encoding", "gzip"),)
_GZIP_FORMAT: Final = 31
_REFUSES_GZIP: Final = re.compile(r"gzip\s*;\s*q=0(\.0*)?\s*(,|$)", re.IGNORECASE)


def accepts_gzip(headers: Mapping[str, str]) -> bool:
    accepted = headers.get("accept-encoding", "")
    return "gzip" in accepted.lower() and not _REFUSES_GZIP.search(accepted)


def compressed(body: bytes) -> bytes:
    return zlib.compress(body, LEVEL, _GZIP_FORMAT)


async def compressed_stream(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Each chunk can be read by the client as soon as it is there."""
    compressor = zlib.compressobj(LEVEL, wbits=_GZIP_FORMAT)
    async for chunk in chunks:
        yield compressor.compress(chunk) + compressor.flush(zlib.Z_SYNC_FLUSH)
    yield compressor.flush()
