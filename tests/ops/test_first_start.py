"""The first administrator."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ops.errors import InvalidParams
from ops.first_start import ensure_first_administrator
from ops.passwords import StoredPassword, is_password
from ops.settings import OpsSettings
from ops.system_records import stored_records
from ops.system_tables import ROLES, SYSTEM, USERS, ensure_system_tables
from storage.catalog import Catalog, open_catalog
from storage.settings import StorageSettings
from tests.ops.user_node import CHEAP

FOLDER = Path("x")
SETTINGS = OpsSettings(node="n1", version="0", root_path=FOLDER, keys_path=FOLDER, log_path=FOLDER)


@pytest.fixture
async def catalog(tmp_path: Path) -> AsyncIterator[Catalog]:
    settings = StorageSettings(path=tmp_path, map_size_bytes=1 << 30, sync=False)
    async with open_catalog(settings, node="n1") as catalog:
        await ensure_system_tables(catalog)
        yield catalog


async def ensure(catalog: Catalog, username: str | None = None, password: str | None = None) -> str | None:
    return await ensure_first_administrator(catalog, SETTINGS, username, password, cost=CHEAP)


def users_of(catalog: Catalog) -> list[dict[str, object]]:
    with catalog.database(SYSTEM).read() as tx:
        return list(stored_records(tx, tx.table(USERS)))


async def test_the_given_administrator_is_made_and_no_password_is_generated(catalog: Catalog) -> None:
    assert await ensure(catalog, "owner", "secret") is None
    (user,) = users_of(catalog)
    assert (user["username"], user["role"], user["active"]) == ("owner", "super_user", True)
    stored = StoredPassword.of(user)
    assert stored is not None
    assert is_password("secret", stored)


@pytest.mark.parametrize("empty", [None, ""])
async def test_without_name_and_password_it_is_admin_with_a_generated_one(catalog: Catalog, empty: str | None) -> None:
    password = await ensure(catalog, empty, empty)
    (user,) = users_of(catalog)
    stored = StoredPassword.of(user)
    assert user["username"] == "admin"
    assert password is not None
    assert len(password) >= 20
    assert stored is not None
    assert is_password(password, stored)


async def test_the_role_of_super_users_is_made(catalog: Catalog) -> None:
    await ensure(catalog)
    with catalog.database(SYSTEM).read() as tx:
        (role,) = list(stored_records(tx, tx.table(ROLES)))
    assert (role["id"], role["role"], role["permission"]) == ("super_user", "super_user", {"super_user": True})


async def test_a_node_with_users_keeps_them(catalog: Catalog) -> None:
    await ensure(catalog, "owner", "secret")
    before = users_of(catalog)
    assert await ensure(catalog, "other", "other") is None
    assert await ensure(catalog) is None
    assert users_of(catalog) == before


async def test_role_and_user_stay_on_this_node(catalog: Catalog) -> None:
    """Rows without a position of their origin are sent to nobody."""
    await ensure(catalog)
    with catalog.database(SYSTEM).read() as tx:
        rows = [row for name in (USERS, ROLES) for _, row in tx.rows(tx.table(name))]
    assert [row.oseq for row in rows] == [0, 0]


@pytest.mark.parametrize("name", ["system", "x" * 251])
async def test_a_name_that_no_user_can_have_is_refused(catalog: Catalog, name: str) -> None:
    with pytest.raises(InvalidParams):
        await ensure(catalog, name)
