"""A client that nobody here wrote: the ``harperdb`` package against a running node."""

from pathlib import Path

import harperdb
import pytest

from tests.node_process import NodeProcess


@pytest.fixture
def client(node: NodeProcess) -> harperdb.HarperDB:
    return harperdb.HarperDB(url=node.url("http"), username=node.username, password=node.password)


def test_tables_and_records_through_the_package(client: harperdb.HarperDB) -> None:
    assert client.create_schema("pk_dev") == {"message": "database 'pk_dev' successfully created"}
    assert client.create_table("pk_dev", "dog", "id") == {"message": "table 'pk_dev.dog' successfully created."}
    inserted = client.insert("pk_dev", "dog", [{"id": 1, "name": "Penny"}, {"id": 2, "name": "Harper"}])
    assert inserted == {"message": "inserted 2 of 2 records", "inserted_hashes": [1, 2], "skipped_hashes": []}
    assert client.update("pk_dev", "dog", [{"id": 1, "age": 7}])["update_hashes"] == [1]
    (penny,) = client.search_by_hash("pk_dev", "dog", [1])
    assert {name: penny[name] for name in ("id", "name", "age")} == {"id": 1, "name": "Penny", "age": 7}
    found = client.search_by_value("pk_dev", "dog", "name", "*arp*", ["name"])
    assert found == [{"name": "Harper"}]
    assert client.delete("pk_dev", "dog", [2])["deleted_hashes"] == [2]
    assert client.describe_table("pk_dev", "dog")["record_count"] == 1
    assert client.drop_attribute("pk_dev", "dog", "age") == {"message": "successfully deleted attribute 'age'"}
    assert client.drop_table("pk_dev", "dog") == {"message": "successfully deleted table 'pk_dev.dog'"}
    assert client.drop_schema("pk_dev") == {"message": "successfully deleted 'pk_dev'"}
    assert "pk_dev" not in client.describe_all()


def test_users_and_roles_through_the_package(client: harperdb.HarperDB, node: NodeProcess) -> None:
    role = client.add_role("pk_reader", {"super_user": False})
    assert client.add_user(role["role"], "pk_user", "Sesame-1") == {"message": "pk_user successfully added"}
    other = harperdb.HarperDB(url=node.url("http"), username="pk_user", password="Sesame-1")
    assert other.user_info("pk_user")["username"] == "pk_user"
    with pytest.raises(harperdb.HarperDBError):
        other.list_users()
    assert "pk_user" in {user["username"] for user in client.list_users()}
    assert client.drop_user("pk_user") == {"message": "pk_user successfully deleted"}
    assert client.drop_role(role["id"]) == {"message": "pk_reader successfully deleted"}


def test_an_error_of_the_node_is_an_error_of_the_package(client: harperdb.HarperDB, tmp_path: Path) -> None:
    with pytest.raises(harperdb.HarperDBError):
        client.create_table("pk_nowhere", "a/b", "id")
