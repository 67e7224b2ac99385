"""Stored passwords: their forms, their checks, and what direct writes of users become."""

import base64
import hashlib
import re
import threading
from typing import Any

import pytest
import trio

from ops import passwords as passwords_module
from ops.errors import InvalidParams
from ops.passwords import Argon2Cost, Passwords, StoredPassword, is_password, make_stored
from tests.ops.user_node import CHEAP

VERIFY = "verify_secret"
FORMS = {
    "md5": r"[A-Za-z0-9]{9}[0-9a-f]{32}",
    "sha256": r"[A-Za-z0-9]{16}[0-9a-f]{64}",
    "argon2id": r"[A-Za-z0-9]{16}\$argon2id\$v=19\$m=64,t=1,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}",
}


@pytest.mark.parametrize("function", list(FORMS))
def test_a_stored_form_begins_with_its_salt(function: str) -> None:
    assert re.fullmatch(FORMS[function], make_stored("secret", function, CHEAP).text)


@pytest.mark.parametrize("function", list(FORMS))
def test_the_right_password_is_recognised(function: str) -> None:
    assert is_password("sécret ∎", make_stored("sécret ∎", function, CHEAP))


@pytest.mark.parametrize("function", list(FORMS))
@pytest.mark.parametrize("wrong", ["", "secret ", "Secret", "secre", "secret\0"])
def test_a_wrong_password_is_not(function: str, wrong: str) -> None:
    assert not is_password(wrong, make_stored("secret", function, CHEAP))


@pytest.mark.parametrize("function", list(FORMS))
def test_the_same_password_is_stored_differently_each_time(function: str) -> None:
    assert make_stored("secret", function, CHEAP) != make_stored("secret", function, CHEAP)


def test_records_made_elsewhere_are_understood() -> None:
    salt9, salt16 = "aB3dE6gH9", "aB3dE6gH9jK2mN5p"
    md5 = salt9 + hashlib.md5(b"secret" + salt9.encode(), usedforsecurity=False).hexdigest()
    sha256 = salt16 + hashlib.sha256(b"secret" + salt16.encode()).hexdigest()
    assert is_password("secret", StoredPassword(text=md5, function="md5"))
    assert is_password("secret", StoredPassword(text=sha256, function="sha256"))


def test_the_salt_of_argon2id_is_the_one_in_front() -> None:
    made = make_stored("secret", "argon2id", CHEAP).text
    other_salt = ("a" if made[0] != "a" else "b") + made[1:]
    assert is_password("secret", StoredPassword(text=other_salt, function="argon2id"))
    assert made.split("$")[4] == salt_in_phc(made[:16])


def salt_in_phc(salt: str) -> str:
    return base64.b64encode(salt.encode()).decode().rstrip("=")


def test_a_record_without_function_is_an_old_one() -> None:
    stored = StoredPassword.of({"password": make_stored("secret", "md5", CHEAP).text})
    assert stored is not None
    assert is_password("secret", stored)


@pytest.mark.parametrize("record", [{}, {"password": None}, {"password": 5}, {"password": "x", "hash_function": 5}])
def test_a_record_without_readable_password_has_none(record: dict[str, Any]) -> None:
    assert StoredPassword.of(record) is None


@pytest.mark.parametrize("function", [*FORMS, "bcrypt", ""])
@pytest.mark.parametrize("text", ["", "x", "secret", "$argon2id$", "0123456789abcdef$argon2id$v=19$m=1,t=1,p=1$!$!"])
def test_a_stored_form_that_is_not_understood_fits_no_password(function: str, text: str) -> None:
    assert not is_password("secret", StoredPassword(text=text, function=function))


def test_a_stored_form_that_would_take_all_memory_is_not_tried() -> None:
    made = make_stored("secret", "argon2id", CHEAP).text.replace("m=64", "m=4194304000")
    assert not is_password("secret", StoredPassword(text=made, function="argon2id"))


def test_the_default_cost_is_the_documented_one() -> None:
    cost = Argon2Cost()
    assert "$m=65536,t=3,p=4$" in make_stored("secret", "argon2id", cost).text


class CountedArgon2:
    """Counts the argon2id computations of a block."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        for name in ("hash_secret", VERIFY):
            self._count_calls_of(monkeypatch, name)

    def _count_calls_of(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        real = getattr(passwords_module, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            return real(*args, **kwargs)

        monkeypatch.setattr(passwords_module, name, counted)


@pytest.mark.parametrize("function", [*FORMS, None])
@pytest.mark.parametrize("configured", ["sha256", "argon2id"])
async def test_a_failure_costs_one_argon2id_whoever_the_user_is(
    function: str | None, configured: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = None if function is None else make_stored("secret", function, CHEAP)
    passwords = Passwords(function=configured, cost=CHEAP)
    counted = CountedArgon2(monkeypatch)
    assert not await passwords.is_password("wrong", stored, client="a")
    assert counted.count == 1


async def test_a_password_that_is_too_long_fails_at_the_same_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = make_stored("secret", "argon2id", CHEAP)
    counted = CountedArgon2(monkeypatch)
    assert not await Passwords(cost=CHEAP).is_password("x" * 1_000_000, stored, client="a")
    assert counted.count == 1


async def test_passwords_are_checked_outside_of_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    real = getattr(passwords_module, VERIFY)

    def noted(*args: Any) -> Any:
        threads.append(threading.get_ident())
        return real(*args)

    monkeypatch.setattr(passwords_module, VERIFY, noted)
    assert await Passwords(cost=CHEAP).is_password("secret", make_stored("secret", "argon2id", CHEAP), client="a")
    assert threads != [threading.get_ident()]


async def test_new_passwords_use_the_configured_function() -> None:
    made = await Passwords(function="sha256").stored_form("secret", client="a")
    assert made.function == "sha256"


async def test_a_plain_password_of_a_direct_write_is_hashed() -> None:
    passwords = Passwords(cost=CHEAP)
    (record,) = await passwords.prepared_users([{"username": "tarka", "password": "secret"}], client="a")
    stored = StoredPassword.of(record)
    assert stored is not None
    assert stored.function == "argon2id"
    assert is_password("secret", stored)


async def test_a_stored_form_that_names_its_function_is_written_as_it_is() -> None:
    made = make_stored("secret", "sha256", CHEAP)
    record = {"username": "tarka", "password": made.text, "hash_function": "sha256"}
    assert await Passwords().prepared_users([record], client="a") == [record]


async def test_a_direct_write_without_password_is_left_alone() -> None:
    record = {"username": "tarka", "active": False}
    assert await Passwords().prepared_users([record], client="a") == [record]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"password": ""}, "Password can't be blank"),
        ({"password": None}, "Password can't be blank"),
        ({"password": 5}, "Password can't be blank"),
        ({"password": "x" * 4097}, "Password cannot exceed 4096 characters"),
        ({"password": "secret", "hash_function": "sha256"}, "'password' is not a stored form of 'hash_function'"),
        ({"password": "secret", "hash_function": "bcrypt"}, "'password' is not a stored form of 'hash_function'"),
        ({"hash_function": "sha256"}, "'hash_function' is not allowed without 'password'"),
    ],
)
async def test_a_direct_write_with_a_bad_password_is_refused(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidParams) as refused:
        await Passwords(cost=CHEAP).prepared_users([{"username": "tarka", **fields}], client="a")
    assert str(refused.value) == problem


async def test_checks_of_many_clients_all_come_to_an_end() -> None:
    passwords = Passwords(cost=CHEAP)
    stored = make_stored("secret", "argon2id", CHEAP)
    results: list[bool] = []

    async def check(client: str, password: str) -> None:
        results.append(await passwords.is_password(password, stored, client=client))

    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(check, f"client {number % 4}", "secret" if number % 2 else "wrong")
    assert sorted(results) == [False] * 20 + [True] * 20
