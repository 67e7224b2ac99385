"""Credentials that were checked a moment ago, so that a password is not hashed again for every request.

What is kept is a digest of the header under a key that this process drew at random, never the header: the memory of a
process holds no password, and its digests are worth nothing elsewhere. An entry counts only while the account is still
the very object it was checked against (``ops/accounts.py``).

Failures are kept as well, apart from the successes, which they must not push out: a client that repeats a wrong
password costs one check, while each new guess costs its own.
"""

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

import trio

from ops.accounts import Account
from ops.recently_used import RecentlyUsed
from storage.errors import Overloaded

VERIFIED_MAX: Final = 4096
FAILED_MAX: Final = 1024
DIGEST_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Verified:
    """``is_token``: given by an operation token, which is no credential for refreshing one."""

    account: Account
    until_s: float
    is_token: bool


@dataclass(frozen=True, slots=True)
class Failed:
    """A credential that did not fit ``account``, None being a user that did not exist."""

    account: Account | None
    until_s: float


@dataclass(slots=True, eq=False)
class _Check:
    """A check under way; ``result`` stays None where it ended without one: cancelled, or refused for want of a turn."""

    done: trio.Event
    result: bool | None = None
    is_refused: bool = False


class VerifiedCredentials:
    """Times are those of ``trio.current_time()``."""

    def __init__(self, *, kept_s: float) -> None:
        self._kept_s = kept_s
        self._key = secrets.token_bytes(32)
        self._verified: RecentlyUsed[bytes, Verified] = RecentlyUsed(VERIFIED_MAX)
        self._failed: RecentlyUsed[bytes, Failed] = RecentlyUsed(FAILED_MAX)
        self._checks: dict[tuple[bytes, Account | None], _Check] = {}

    def digest(self, header: str) -> bytes:
        return blake2b(header.encode(errors="surrogatepass"), key=self._key, digest_size=DIGEST_BYTES).digest()

    def verified(self, digest: bytes) -> Verified | None:
        """What was verified and not yet has to be again; the caller compares the account."""
        entry = self._verified.get(digest)
        return entry if entry is not None and trio.current_time() < entry.until_s else None

    def remember(self, digest: bytes, account: Account, *, is_token: bool, lives_s: float | None = None) -> None:
        """Keep a success, for at most ``lives_s`` where the credential itself ends."""
        kept_s = self._kept_s if lives_s is None else min(self._kept_s, lives_s)
        self._verified.put(digest, Verified(account, trio.current_time() + kept_s, is_token))

    def has_failed(self, digest: bytes, account: Account | None) -> bool:
        """Whether this credential was found wrong for this very account a moment ago."""
        entry = self._failed.get(digest)
        return entry is not None and entry.account is account and trio.current_time() < entry.until_s

    def remember_failure(self, digest: bytes, account: Account | None) -> None:
        self._failed.put(digest, Failed(account, trio.current_time() + self._kept_s))

    async def check_once(self, digest: bytes, account: Account | None, check: Callable[[], Awaitable[bool]]) -> bool:
        """The result of ``check``, shared by all that ask for the same credential of the same account while it runs.

        Where the one that runs it is cancelled, the next one runs its own. Raises ``Overloaded`` to all.
        """
        key = (digest, account)
        while (running := self._checks.get(key)) is not None:
            await running.done.wait()
            if running.is_refused:
                raise Overloaded
            if running.result is not None:
                return running.result
        running = self._checks[key] = _Check(trio.Event())
        try:
            running.result = await check()
            return running.result
        except Overloaded:
            running.is_refused = True
            raise
        finally:
            del self._checks[key]
            running.done.set()
