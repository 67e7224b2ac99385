"""The private keys of certificates: files of the keys folder, and those elsewhere that configuration names.

A row of ``hdb_certificate`` names its key by file name only, and a key serves only with the certificate that it
belongs to. A file that is there is never overwritten: a certificate in force may need it.
"""

import logging
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

from node.certificate_files import Unusable, is_key_of, parse_key, read_bytes, read_key, write_key
from node.certificates import AUTHORITY_KEY, KEY

log = logging.getLogger("tls")

STEM_LENGTH_MAX: Final = 200
"""File systems take names of 255 bytes; some room for what is appended."""
_OUTSIDE_OF_FILE_NAMES: Final = re.compile(r"[^A-Za-z0-9.]")
_OWN: Final = frozenset((KEY, AUTHORITY_KEY))
"""Keys of the node itself, which outlive every certificate made for them."""

FileState: TypeAlias = tuple[int, int, int] | None


def sanitized_name(name: str) -> str:
    """``name`` with a dash for all that might mean something in a path, one dash per character."""
    return _OUTSIDE_OF_FILE_NAMES.sub("-", name)


def state_of(path: Path) -> FileState:
    """What changes with a file's content; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


class KeyFiles:
    """Blocks for the disk. What configuration names is read, and otherwise left alone."""

    def __init__(self, folder: Path, configured: Iterable[Path] = ()) -> None:
        self._folder = folder
        self._configured = tuple(dict.fromkeys(configured))

    def find_for(self, public_key: PublicKeyTypes) -> str | None:
        """Name of the first file with the private key of ``public_key``."""
        for path in self._paths():
            try:
                key = read_key(path)
            except (Unusable, OSError):
                continue  # certificates are here too
            if key is not None and key.public_key() == public_key:
                return path.name
        return None

    def read_for(self, name: str, leaf: x509.Certificate) -> bytes:
        """Content of the file ``name``, which holds the key of ``leaf``. Raises ``Unusable``, ``OSError``."""
        reason = Unusable(f"the private key {name} does not exist")
        for path in self._called(name):
            data = read_bytes(path)
            if data is None:
                continue
            if is_key_of(parse_key(data, path), leaf):
                return data
            reason = Unusable(f"the key {path} does not belong to the certificate")
        raise reason

    def store(self, name: str, key: PrivateKeyTypes) -> str:
        """Write ``key`` to a new file called after ``name``; returns the file's name. Raises ``OSError``."""
        stem = sanitized_name(name)[:STEM_LENGTH_MAX]
        path, number = self._folder / f"{stem}.pem", 1
        while path.exists() or path.is_symlink():
            number += 1
            path = self._folder / f"{stem}-{number}.pem"
        write_key(path, key)
        return path.name

    def remove(self, name: str) -> None:
        """Delete a key that no certificate needs any more, unless it is the node's own or configuration names it.

        A file that cannot be deleted is told in the log.
        """
        path = self._folder / name
        if name in _OWN or path in self._configured or path not in self._called(name):
            return
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            log.error("%s could not be deleted: %s", path, error)

    def state(self) -> tuple[tuple[str, FileState], ...]:
        """What changes whenever a key may have."""
        return tuple((str(path), state_of(path)) for path in self._paths())

    def _paths(self) -> Iterator[Path]:
        inside = sorted(self._folder.glob("*.pem"))
        yield from inside
        yield from (path for path in self._configured if path not in inside)

    def _called(self, name: str) -> list[Path]:
        """Files of this name; none where it is more than a name."""
        if name in ("", "..") or Path(name).name != name:
            return []
        return [self._folder / name, *(path for path in self._configured if path.name == name)]
