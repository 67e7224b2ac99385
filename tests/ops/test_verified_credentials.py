"""Remembered credentials, and checks shared by all that wait for the same one."""

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from ops.accounts import Account
from ops.context import User
from ops.verified_credentials import VerifiedCredentials
from storage.errors import Overloaded
from storage.record import Row


def account_of(name: str = "tarka") -> Account:
    row = Row(1, 1, 1, 1, b"")
    user = User(name=name, role={})
    return Account(user=user, password=None, created_ms=0, user_key=b"", user_row=row, role_key=None, role_row=None)


class Check:
    """A check that waits until it is told its result."""

    def __init__(self) -> None:
        self.count = 0
        self.go_on = trio.Event()
        self.result = True
        self.is_overloaded = False

    async def __call__(self) -> bool:
        self.count += 1
        await self.go_on.wait()
        if self.is_overloaded:
            raise Overloaded
        return self.result


async def collect(results: list[object], ask: Callable[[], Awaitable[bool]]) -> None:
    try:
        results.append(await ask())
    except Overloaded:
        results.append("overloaded")


async def test_a_success_is_kept_for_its_time(autojump_clock: trio.testing.MockClock) -> None:
    remembered, account = VerifiedCredentials(kept_s=30), account_of()
    remembered.remember(b"a", account, is_token=False)
    await trio.sleep(29.9)
    entry = remembered.verified(b"a")
    assert entry is not None
    assert entry.account is account
    await trio.sleep(0.1)
    assert remembered.verified(b"a") is None


async def test_a_credential_that_ends_is_not_kept_beyond_its_end(autojump_clock: trio.testing.MockClock) -> None:
    remembered = VerifiedCredentials(kept_s=30)
    remembered.remember(b"a", account_of(), is_token=True, lives_s=5)
    await trio.sleep(5)
    assert remembered.verified(b"a") is None


async def test_a_failure_is_kept_for_its_account_alone(autojump_clock: trio.testing.MockClock) -> None:
    remembered, account = VerifiedCredentials(kept_s=30), account_of()
    remembered.remember_failure(b"a", account)
    assert remembered.has_failed(b"a", account)
    assert not remembered.has_failed(b"a", account_of())
    assert not remembered.has_failed(b"a", None)
    await trio.sleep(30)
    assert not remembered.has_failed(b"a", account)


def test_digests_differ_between_processes() -> None:
    one, other = VerifiedCredentials(kept_s=30), VerifiedCredentials(kept_s=30)
    assert one.digest("Basic x") == one.digest("Basic x")
    assert one.digest("Basic x") != one.digest("Basic y")
    assert one.digest("Basic x") != other.digest("Basic x")


@pytest.mark.parametrize("result", [True, False])
async def test_a_running_check_is_shared(result: bool) -> None:
    remembered, account, check = VerifiedCredentials(kept_s=30), account_of(), Check()
    check.result = result
    results: list[object] = []
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(collect, results, lambda: remembered.check_once(b"a", account, check))
        await trio.testing.wait_all_tasks_blocked()
        check.go_on.set()
    assert (results, check.count) == ([result] * 5, 1)


async def test_a_check_of_another_version_of_the_account_is_not_shared() -> None:
    remembered, before, after = VerifiedCredentials(kept_s=30), Check(), Check()
    before.result = False
    results: list[object] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(collect, results, lambda: remembered.check_once(b"a", account_of(), before))
        nursery.start_soon(collect, results, lambda: remembered.check_once(b"a", account_of(), after))
        await trio.testing.wait_all_tasks_blocked()
        after.go_on.set()
        before.go_on.set()
    assert sorted(map(str, results)) == ["False", "True"]


async def test_a_cancelled_check_is_taken_over_by_one_that_waits() -> None:
    remembered, account, check = VerifiedCredentials(kept_s=30), account_of(), Check()
    results: list[object] = []
    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()

        async def be_cancelled() -> None:
            with scope:
                await remembered.check_once(b"a", account, check)

        nursery.start_soon(be_cancelled)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(3):
            nursery.start_soon(collect, results, lambda: remembered.check_once(b"a", account, check))
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        check.go_on.set()
    assert (results, check.count) == ([True] * 3, 2)


async def test_a_check_that_is_refused_is_refused_to_all() -> None:
    remembered, account, check = VerifiedCredentials(kept_s=30), account_of(), Check()
    check.is_overloaded = True
    results: list[object] = []
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(collect, results, lambda: remembered.check_once(b"a", account, check))
        await trio.testing.wait_all_tasks_blocked()
        check.go_on.set()
    assert (results, check.count) == (["overloaded"] * 3, 1)
