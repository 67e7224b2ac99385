"""The RSA keys that sign the node's tokens: three files in ``<rootPath>/keys/``, made when they are first needed.

=================== ==================================================================
``.jwtPass``        passphrase, a UUID
``.jwtPrivate.key`` private key, PKCS#8 PEM, encrypted (AES-256-CBC)
``.jwtPublic.key``  public key, SPKI PEM
=================== ==================================================================

When one is missing all three are made anew, and older tokens end. The public key is written last and removed first,
so that a crash in between always leaves one missing. Nodes accept each other's tokens when an operator gives them the
same files.
"""

import logging
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

from node.certificate_files import FILE_MODE, read_bytes
from node.configuration_file import replace_file
from node.file_lock import LockBusy, locked
from storage.errors import DatabaseError

log = logging.getLogger("authentication")

PASSPHRASE: Final = ".jwtPass"
PRIVATE_KEY: Final = ".jwtPrivate.key"
PUBLIC_KEY: Final = ".jwtPublic.key"
_IN_ORDER: Final = (PASSPHRASE, PRIVATE_KEY, PUBLIC_KEY)
_KEY_BITS: Final = 4096
_LOCK_FILE: Final = ".jwt.lock"
_LOCK_WAIT_S: Final = 60.0
"""Far longer than the slowest machine needs for one pair of keys."""


class TokenKeysUnusable(DatabaseError):
    """The files are there but do not serve: somebody changed them. Nothing is made anew, as that would end all
    tokens.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"tokens cannot be signed: {reason}; remove {', '.join(_IN_ORDER)} to have new keys made")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenKeyPair:
    """For PyJWT's RS256: ``private`` signs, ``public`` verifies."""

    private: rsa.RSAPrivateKey = field(repr=False)
    public: rsa.RSAPublicKey


class TokenKeys:
    """Reads or makes the keys at the first call of ``get``, in a worker thread; every later one answers at once.

    Making them takes anything up to several seconds, which a start must not wait for: run ``prepare`` in a task of
    its own once the node serves. Whoever needs the keys earlier waits for the same making.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pair: TokenKeyPair | None = None
        self._lock = trio.Lock()

    async def get(self) -> TokenKeyPair:
        """Raises ``TokenKeysUnusable``, or ``OSError`` where the folder cannot be used; the next call tries again."""
        if self._pair is None:
            async with self._lock:
                if self._pair is None:
                    self._pair = await trio.to_thread.run_sync(load_token_keys, self._folder)
        return self._pair

    async def prepare(self) -> None:
        """Have the keys ready before somebody asks. What fails is logged: whoever asks then gets the error."""
        try:
            await self.get()
        except (TokenKeysUnusable, OSError) as error:
            log.error("%s", error)


def load_token_keys(folder: Path) -> TokenKeyPair:
    """The keys in ``folder``, made first where one is missing. Blocks for seconds then. Processes may call it
    together.
    """
    try:
        with locked(folder / _LOCK_FILE, wait_s=_LOCK_WAIT_S):
            return _load_or_make(folder)
    except LockBusy:
        raise TokenKeysUnusable("another process is making the keys") from None


def _load_or_make(folder: Path) -> TokenKeyPair:
    contents = [read_bytes(folder / name) for name in _IN_ORDER]
    if any(content is None for content in contents):
        return _make(folder)
    passphrase, private_pem, public_pem = (content for content in contents if content is not None)
    private = _parse_private(private_pem, passphrase.strip())
    public = _parse_public(public_pem)
    if not isinstance(private, rsa.RSAPrivateKey) or not isinstance(public, rsa.RSAPublicKey):
        raise TokenKeysUnusable("the keys are not of type RSA")
    if private.public_key() != public:
        raise TokenKeysUnusable(f"{PUBLIC_KEY} does not belong to {PRIVATE_KEY}")
    return TokenKeyPair(private=private, public=public)


def _make(folder: Path) -> TokenKeyPair:
    for name in reversed(_IN_ORDER):
        (folder / name).unlink(missing_ok=True)
    log.info("making the keys that sign tokens")
    private = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
    passphrase = str(uuid.uuid4())
    private_pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(passphrase.encode("ascii")),
    )
    public_pem = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for name, content in zip(_IN_ORDER, (passphrase.encode("ascii"), private_pem, public_pem), strict=True):
        replace_file(folder / name, content.decode("ascii"), mode=FILE_MODE)
    return TokenKeyPair(private=private, public=private.public_key())


def _parse_private(pem: bytes, passphrase: bytes) -> PrivateKeyTypes:
    try:
        return serialization.load_pem_private_key(pem, password=passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise TokenKeysUnusable(f"{PRIVATE_KEY} cannot be read with the passphrase in {PASSPHRASE}") from None


def _parse_public(pem: bytes) -> PublicKeyTypes:
    try:
        return serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise TokenKeysUnusable(f"{PUBLIC_KEY} holds no public key in PEM format") from None
