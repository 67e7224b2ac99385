"""PEM files of keys and certificates: read with bounds and checks, written so that a crash leaves the old or the new
one.

What is wrong with a file's content is an ``Unusable`` with a reason fit for the log; no part of a key ever gets into a
message.
"""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from node.configuration_file import replace_file

FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700
PEM_BYTES_MAX: Final = 1024 * 1024
_UNREADABLE: Final = (
    ValueError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


class Unusable(Exception):
    """A key or certificate file that cannot serve; the message names the file and says why."""


def read_key(path: Path) -> PrivateKeyTypes | None:
    """The private key in ``path``, None where there is no such file. Raises ``Unusable``, also for an encrypted key."""
    data = read_bytes(path)
    return None if data is None else parse_key(data, path)


def parse_key(data: bytes, source: Path | str) -> PrivateKeyTypes:
    """``source`` is what a message calls the place that ``data`` comes from."""
    try:
        return serialization.load_pem_private_key(data, password=None)
    except TypeError:
        raise Unusable(f"{source} holds an encrypted private key") from None
    except (ValueError, UnsupportedAlgorithm):
        raise Unusable(f"{source} holds no private key in PEM format") from None


def read_chain(path: Path) -> list[x509.Certificate] | None:
    """The certificates in ``path``, the leaf first; None where there is no such file. Raises ``Unusable``."""
    data = read_bytes(path)
    return None if data is None else parse_chain(data, path)


def parse_chain(data: bytes, source: Path | str) -> list[x509.Certificate]:
    """The certificates in ``data``, one at least, all of whose parts can be read: nobody who asks later need fear."""
    try:
        chain = x509.load_pem_x509_certificates(data)
        for certificate in chain:
            _read_all_parts(certificate)
    except _UNREADABLE:
        raise Unusable(f"{source} holds no certificate in PEM format") from None
    return chain


def _read_all_parts(certificate: x509.Certificate) -> None:
    """Parts are decoded when they are asked for; those of a foreign certificate may be anything."""
    certificate.public_key()
    for part in ("subject", "issuer", "extensions", "serial_number", "not_valid_before_utc", "not_valid_after_utc"):
        getattr(certificate, part)


def read_bytes(path: Path) -> bytes | None:
    """The whole file, None where there is none. Raises ``OSError``, ``Unusable`` for one that is too large to be PEM."""
    try:
        with path.open("rb") as stream:
            data = stream.read(PEM_BYTES_MAX + 1)
    except FileNotFoundError:
        return None
    if len(data) > PEM_BYTES_MAX:
        raise Unusable(f"{path} is larger than {PEM_BYTES_MAX} bytes")
    return data


def write_key(path: Path, key: PrivateKeyTypes) -> None:
    data = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    replace_file(path, data.decode("ascii"), mode=FILE_MODE)


def write_certificate(path: Path, certificate: x509.Certificate) -> None:
    replace_file(path, pem_of(certificate), mode=FILE_MODE)


def pem_of(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


def is_key_of(key: PrivateKeyTypes, certificate: x509.Certificate) -> bool:
    return bool(key.public_key() == certificate.public_key())


def is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Did ``authority`` sign ``certificate``? Names and signature are compared, nothing else."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def prepare_keys_folder(folder: Path) -> None:
    """Create ``folder`` for its owner alone, and remove what writes that were cut short left in it."""
    folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    if folder.stat().st_mode & 0o077:
        folder.chmod(FOLDER_MODE)
    for leftover in folder.glob(".*.new"):
        leftover.unlink(missing_ok=True)


def set_aside(path: Path) -> Path:
    """Rename a file that cannot serve, so that it is out of use but not lost. Returns its new place."""
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S.%fZ")
    aside = path.with_name(f"{path.name}.{stamp}.unused")
    os.rename(path, aside)
    return aside
