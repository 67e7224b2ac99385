"""Stored passwords: how they are made and checked.

======== ==========================================================================
function stored text
======== ==========================================================================
md5      9 salt characters + hex of md5(password + salt); only in old records
sha256   16 salt characters + hex of sha256(password + salt)
argon2id 16 salt characters + PHC string, made with that salt
======== ==========================================================================

A check that fails has always cost one argon2id, whether the user exists or not and whatever function its record uses:
the time tells nothing, and guessing stays slow where records are old.
"""

import hmac
import re
import secrets
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import md5, sha256
from typing import Any, Final

from argon2 import Parameters, extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import Type, hash_secret, verify_secret

from ops.errors import InvalidParams
from ops.turns import Turns

PASSWORD_LENGTH_MAX: Final = 4096
"""Characters. Hashing takes time in proportion; nobody types this many."""
HASHES_AT_ONCE: Final = 2
"""Each takes 64 MiB and, with its lanes, more than one core."""
MEMORY_KIB_MAX: Final = 1 << 20
ITERATIONS_MAX: Final = 64
"""Bounds of what a stored record may ask for: it may come from elsewhere."""
SALT_CHARACTERS: Final = string.ascii_letters + string.digits
SALT_LENGTHS: Final[Mapping[str, int]] = {"md5": 9, "sha256": 16, "argon2id": 16}
ARGON2_HASH_BYTES: Final = 32
_STORED_FORMS: Final[Mapping[str, re.Pattern[str]]] = {
    "md5": re.compile(r"[A-Za-z0-9]{9}[0-9a-f]{32}"),
    "sha256": re.compile(r"[A-Za-z0-9]{16}[0-9a-f]{64}"),
    "argon2id": re.compile(r"[A-Za-z0-9]{16}\$argon2id\$v=19\$m=\d+,t=\d+,p=\d+\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Argon2Cost:
    memory_kib: int = 65536
    iterations: int = 3
    lanes: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPassword:
    """What a user's record holds."""

    text: str
    function: str

    @classmethod
    def of(cls, user: Mapping[str, Any]) -> "StoredPassword | None":
        """The password of a user's record; None where it has none. A record that names no function is an old one."""
        text = user.get("password")
        function = user.get("hash_function") or "md5"
        return cls(text=text, function=function) if isinstance(text, str) and isinstance(function, str) else None

    @property
    def is_well_formed(self) -> bool:
        form = _STORED_FORMS.get(self.function)
        return form is not None and form.fullmatch(self.text) is not None


def make_stored(password: str, function: str, cost: Argon2Cost) -> StoredPassword:
    """A new stored form with a fresh salt. Takes its time: not for the event loop."""
    salt = "".join(secrets.choice(SALT_CHARACTERS) for _ in range(SALT_LENGTHS[function]))
    if function == "argon2id":
        return StoredPassword(text=salt + _argon2(password, salt, cost), function=function)
    return StoredPassword(text=salt + _digest(function, password, salt), function=function)


def is_password(password: str, stored: StoredPassword) -> bool:
    """Whether ``stored`` was made of ``password``; False for a form that is not understood. Not for the event loop."""
    if not stored.is_well_formed:
        return False
    salt_length = SALT_LENGTHS[stored.function]
    salt, made = stored.text[:salt_length], stored.text[salt_length:]
    if stored.function != "argon2id":
        return hmac.compare_digest(_digest(stored.function, password, salt), made)
    if not _is_bearable(made):
        return False
    try:
        return verify_secret(made.encode(), password.encode(errors="surrogatepass"), Type.ID)
    except (VerificationError, InvalidHashError):
        return False


class Passwords:
    """Makes and checks stored passwords in worker threads, fairly between clients."""

    def __init__(self, *, function: str = "argon2id", cost: Argon2Cost | None = None, wait_s_max: float = 20.0) -> None:
        self._function = function
        self._cost = cost or Argon2Cost()
        self._turns = Turns(at_once=HASHES_AT_ONCE, wait_s_max=wait_s_max)

    async def stored_form(self, password: str, *, client: str) -> StoredPassword:
        """The stored form of a new password, by the configured function. Raises ``Overloaded``."""
        return await self._turns.run(client, make_stored, password, self._function, self._cost)

    async def is_password(self, password: str, stored: StoredPassword | None, *, client: str) -> bool:
        """Whether ``password`` is the one of ``stored``, None being a user that does not exist. Raises
        ``Overloaded``.
        """
        return await self._turns.run(client, self._check, password, stored)

    async def prepared_users(self, records: Sequence[dict[str, Any]], *, client: str) -> list[dict[str, Any]]:
        """Records for a direct write to the table of users, no plain password among them.

        A record that names its ``hash_function`` brings a stored form, as a copy from another node does, and keeps it;
        without that the password is taken as plain and replaced by its stored form. Raises ``InvalidParams`` for a
        blank or malformed one.
        """
        return [await self._prepared_user(record, client) for record in records]

    async def _prepared_user(self, record: dict[str, Any], client: str) -> dict[str, Any]:
        if "password" not in record:
            if "hash_function" in record:
                raise InvalidParams("'hash_function' is not allowed without 'password'")
            return record
        check_new_password(record["password"])
        if record.get("hash_function") is None:
            made = await self.stored_form(record["password"], client=client)
            return {**record, "password": made.text, "hash_function": made.function}
        stored = StoredPassword.of(record)
        if stored is None or not stored.is_well_formed:
            raise InvalidParams("'password' is not a stored form of 'hash_function'")
        return record

    def _check(self, password: str, stored: StoredPassword | None) -> bool:
        is_short = len(password) <= PASSWORD_LENGTH_MAX
        if is_short and stored is not None and is_password(password, stored):
            return True
        if not is_short or stored is None or stored.function != "argon2id" or not stored.is_well_formed:
            _argon2(password[:PASSWORD_LENGTH_MAX], "0" * SALT_LENGTHS["argon2id"], self._cost)
        return False


def check_new_password(password: Any) -> None:
    """Raises ``InvalidParams`` for what cannot be a password."""
    problem = password_problem(password)
    if problem is not None:
        raise InvalidParams(problem)


def password_problem(password: Any) -> str | None:
    """What is wrong with a new password, in words for the client."""
    if not isinstance(password, str) or not password:
        return "Password can't be blank"
    if len(password) > PASSWORD_LENGTH_MAX:
        return f"Password cannot exceed {PASSWORD_LENGTH_MAX} characters"
    return None


def _digest(function: str, password: str, salt: str) -> str:
    make: Callable[..., Any] = md5 if function == "md5" else sha256
    return str(make((password + salt).encode(errors="surrogatepass"), usedforsecurity=False).hexdigest())


def _argon2(password: str, salt: str, cost: Argon2Cost) -> str:
    made: bytes = hash_secret(
        password.encode(errors="surrogatepass"),
        salt.encode(),
        time_cost=cost.iterations,
        memory_cost=cost.memory_kib,
        parallelism=cost.lanes,
        hash_len=ARGON2_HASH_BYTES,
        type=Type.ID,
    )
    return made.decode()


def _is_bearable(made: str) -> bool:
    try:
        parameters: Parameters = extract_parameters(made)
    except InvalidHashError:
        return False
    return parameters.memory_cost <= MEMORY_KIB_MAX and parameters.time_cost <= ITERATIONS_MAX
