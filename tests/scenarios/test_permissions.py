"""What a role may do and see, asked of a whole node: every operation on records, structure and descriptions."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.node_process import NodeProcess
from tests.scenarios.asking import Answer, ask, forbidden, missing_rights
from tests.scenarios.zoo import FLAGS, TARKA, TIMESTAMPS, attribute, on_otter, table_rights, tarka_with, zoo_node


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with zoo_node(tmp_path_factory.mktemp("node") / "root") as running:
        yield running


@pytest.fixture
def become(node: NodeProcess) -> Iterator[Any]:
    with tarka_with(node) as function:
        yield function


SU_ONLY = {
    "list_roles": "listRoles",
    "add_role": "addRole",
    "alter_role": "alterRole",
    "drop_role": "dropRole",
    "list_users": "listUsersExternal",
    "add_user": "addUser",
    "alter_user": "alterUser",
    "drop_user": "dropUser",
    "get_backup": "getBackup",
    "search_jobs_by_start_date": "handleGetJobsByStartDate",
    "set_configuration": "setConfiguration",
    "get_configuration": "getConfiguration",
    "restart": "restart",
    "system_information": "systemInformation",
    "set_status": "setStatus",
    "get_status": "getStatus",
    "clear_status": "clearStatus",
    "read_log": "readLog",
    "read_transaction_log": "readTransactionLog",
    "delete_transaction_logs_before": "deleteTransactionLogsBefore",
    "read_audit_log": "readAuditLog",
    "delete_audit_logs_before": "deleteAuditLogsBefore",
}


def test_operations_for_super_users_only_are_refused_by_their_internal_name(node: NodeProcess, become: Any) -> None:
    become({"structure_user": True})
    for operation, name in SU_ONLY.items():
        expected = forbidden(f"Operation '{name}' is restricted to 'super_user' roles")
        assert ask(node, operation, user=TARKA, database="zoo", table="otter") == expected, operation


@pytest.mark.parametrize("permission", [{}, {"cluster_user": True}, {"zoo": {}}, on_otter(table_rights())])
def test_a_role_without_rights_sees_no_data_but_itself(node: NodeProcess, become: Any, permission: Any) -> None:
    become(permission)
    assert ask(node, "user_info", user=TARKA)[0] == 200
    assert ask(node, "describe_all", user=TARKA) == (200, {})
    assert ask(node, "get_job", user=TARKA, id="none") == (200, [])
    nothing = forbidden(unknown=["database 'zoo' does not exist"])
    search: dict[str, Any] = {"database": "zoo", "table": "otter", "ids": [1], "get_attributes": ["*"]}
    assert ask(node, "search_by_id", user=TARKA, **search) == nothing
    assert ask(node, "describe_database", user=TARKA, database="zoo") == nothing


BODIES: dict[str, dict[str, Any]] = {
    "insert": {"records": [{"id": 50, "name": "x"}]},
    "update": {"records": [{"id": 1, "name": "Tarka"}]},
    "upsert": {"records": [{"id": 1, "name": "Tarka"}]},
    "delete": {"ids": [999]},
    "search_by_id": {"ids": [1], "get_attributes": ["name"]},
    "search_by_hash": {"hash_values": [1], "get_attributes": ["name"]},
    "search_by_value": {"attribute": "name", "value": "T*", "get_attributes": ["name"]},
    "search_by_conditions": {
        "conditions": [{"attribute": "name", "comparator": "equals", "value": "Tarka"}],
        "get_attributes": ["name"],
    },
}
NEEDED = {
    "insert": ["insert"],
    "update": ["update"],
    "upsert": ["insert", "update"],
    "delete": ["delete"],
    **{name: ["read"] for name in ("search_by_id", "search_by_hash", "search_by_value", "search_by_conditions")},
}


@pytest.mark.parametrize("granted", [("read",), ("insert",), ("update",), ("delete",), ("read", "insert"), FLAGS])
def test_every_record_operation_needs_its_table_rights(
    node: NodeProcess, become: Any, granted: tuple[str, ...]
) -> None:
    become(on_otter(table_rights(*granted)))
    for operation, needed in NEEDED.items():
        missing = [right for right in needed if right not in granted]
        answer = ask(node, operation, user=TARKA, database="zoo", table="otter", **BODIES[operation])
        if missing:
            assert answer == forbidden(missing_rights("zoo.otter", missing)), operation
        else:
            assert answer[0] == 200, (operation, answer)
    node.post(operation="delete", database="zoo", table="otter", ids=[50])


def test_what_a_role_may_not_see_does_not_exist_for_it(node: NodeProcess, become: Any) -> None:
    become(on_otter(table_rights("read")))
    for operation, fields in BODIES.items():
        assert ask(node, operation, user=TARKA, database="zoo", table="staff", **fields) == forbidden(
            unknown=["Table 'zoo.staff' does not exist"]
        ), operation
        assert ask(node, operation, user=TARKA, database="sea", table="fish", **fields) == forbidden(
            unknown=["database 'sea' does not exist"]
        ), operation
        assert ask(node, operation, user=TARKA, database="moon", table="fish", **fields) == forbidden(
            unknown=["database 'moon' does not exist"]
        ), operation


@pytest.mark.parametrize(
    "names",
    [{"schema": "zoo", "database": "sea", "table": "fish"}, {"table": "fish"}, {"schema": "sea", "table": "fish"}],
)
def test_names_are_resolved_for_the_check_as_for_the_work(
    node: NodeProcess, become: Any, names: dict[str, Any]
) -> None:
    become(on_otter(table_rights(*FLAGS)))
    for operation, fields in BODIES.items():
        status, answer = ask(node, operation, user=TARKA, **names, **fields)
        database = names.get("database", names.get("schema", "data"))
        assert (status, answer) == forbidden(unknown=[f"database '{database}' does not exist"]), operation


def test_a_refusal_comes_before_validation_and_before_unknown_names(node: NodeProcess, become: Any) -> None:
    become(on_otter(table_rights("read")))
    assert ask(node, "insert", user=TARKA, database="zoo", table="otter") == forbidden(
        missing_rights("zoo.otter", ["insert"])
    )
    assert ask(node, "nope", user=TARKA) == (400, {"error": "Operation 'nope' not found"})
    assert ask(node, "nope", user=("tarka", "wrong")) == (401, {"error": "Login failed"})


CASCADE = table_rights("read", "insert", "update", attributes=[
    attribute("name", "read", "insert", "update"),
    attribute("weight", "read"),
    attribute("age"),
    attribute("__createdtime__", "read", "insert", "update"),
])  # fmt: skip


def in_otter(node: NodeProcess, operation: str, **fields: Any) -> Answer:
    return ask(node, operation, user=TARKA, database="zoo", table="otter", **fields)


WRITES: list[tuple[str, dict[str, Any], Answer | None]] = [
    ("insert", {"id": 60, "name": "n"}, None),
    ("update", {"id": 60, "name": "m"}, None),
    ("upsert", {"id": 60, "name": "o"}, None),
    ("insert", {"id": 61, "age": 1}, forbidden(unknown=["Attribute 'age' does not exist on 'zoo.otter'"])),
    ("insert", {"id": 61, "new": 1}, forbidden(unknown=["Attribute 'new' does not exist on 'zoo.otter'"])),
    ("insert", {"id": 61, "weight": 1}, forbidden(missing_rights("zoo.otter", [], {"weight": ["insert"]}))),
    ("update", {"id": 60, "weight": 1}, forbidden(missing_rights("zoo.otter", [], {"weight": ["update"]}))),
    ("upsert", {"id": 60, "weight": 1}, forbidden(missing_rights("zoo.otter", [], {"weight": ["insert", "update"]}))),
    (
        "upsert",
        {"id": 60, "weight": 1, "age": 2},
        forbidden(
            missing_rights("zoo.otter", [], {"weight": ["insert", "update"]}),
            unknown=["Attribute 'age' does not exist on 'zoo.otter'"],
        ),
    ),
    (
        "insert",
        {"id": 61, "__createdtime__": 5},
        (
            403,
            {
                "error": "Internal timestamp attributes - '__createdtime_' and '__updatedtime__' - cannot be inserted to "
                "or updated by HDB users."
            },
        ),
    ),
    (
        "insert",
        {"id": 61, "__updatedtime__": 5},
        forbidden(unknown=["Attribute '__updatedtime__' does not exist on 'zoo.otter'"]),
    ),
]


def test_writes_of_a_role_with_attribute_rights(node: NodeProcess, become: Any) -> None:
    become({"zoo": {"tables": {"otter": CASCADE}}})
    for operation, record, expected in WRITES:
        status, answer = in_otter(node, operation, records=[record])
        if expected is None:
            assert status == 200, (operation, record, answer)
        else:
            assert (status, answer) == expected, (operation, record)
    mixed = [{"id": 60, "name": "x"}, {"id": 61, "weight": 5}]
    assert in_otter(node, "update", records=mixed) == forbidden(missing_rights("zoo.otter", [], {"weight": ["update"]}))
    assert in_otter(node, "delete", ids=[60]) == forbidden(missing_rights("zoo.otter", ["delete"]))
    node.post(operation="delete", database="zoo", table="otter", ids=[60])


NO_AGE = forbidden(unknown=["Attribute 'age' does not exist on 'zoo.otter'"])


def test_reads_of_a_role_with_attribute_rights(node: NodeProcess, become: Any) -> None:
    become({"zoo": {"tables": {"otter": CASCADE}}})
    is_tarka = {"attribute": "name", "comparator": "equals", "value": "Tarka"}
    is_three = {"attribute": "age", "comparator": "equals", "value": 3}
    assert in_otter(node, "search_by_id", ids=[1], get_attributes=["name", "age"]) == NO_AGE
    assert in_otter(node, "search_by_value", attribute="age", value=3, get_attributes=["name"]) == NO_AGE
    assert in_otter(node, "search_by_value", attribute="name", value="T*", get_attributes=["age"]) == NO_AGE
    assert in_otter(node, "search_by_conditions", conditions=[is_three], get_attributes=["name"]) == NO_AGE
    assert in_otter(node, "search_by_conditions", conditions=[is_tarka], get_attributes=["age"]) == NO_AGE
    nested = [{"operator": "or", "conditions": [is_tarka, is_three]}]
    assert in_otter(node, "search_by_conditions", conditions=nested, get_attributes=["name"]) == NO_AGE
    by_age = {"attribute": "age"}
    assert in_otter(node, "search_by_conditions", conditions=[is_tarka], sort=by_age, get_attributes=["name"]) == NO_AGE
    next_by_age = {"attribute": "name", "next": by_age}
    assert (
        in_otter(node, "search_by_conditions", conditions=[is_tarka], sort=next_by_age, get_attributes=["name"])
        == NO_AGE
    )
    status, (found,) = in_otter(node, "search_by_conditions", conditions=[is_tarka], get_attributes=["name", "weight"])
    assert (status, found) == (200, {"name": "Tarka", "weight": 9})


@pytest.mark.parametrize("wildcard", ["*", "%"])
def test_a_wildcard_is_what_the_role_may_read(node: NodeProcess, become: Any, wildcard: str) -> None:
    become({"zoo": {"tables": {"otter": CASCADE}}})
    status, (found,) = in_otter(node, "search_by_id", ids=[1], get_attributes=[wildcard])
    assert status == 200
    assert found.keys() == {"name", "weight", "__createdtime__", "id"}
    assert list(found)[-1] == "id"
    conditions = [{"attribute": "name", "comparator": "equals", "value": "Tarka"}]
    assert in_otter(node, "search_by_conditions", conditions=conditions) == (200, [found])


def test_a_wildcard_is_everything_for_a_role_with_rights_on_the_table(node: NodeProcess, become: Any) -> None:
    become(on_otter(table_rights("read")))
    _, (everything,) = in_otter(node, "search_by_id", ids=[1], get_attributes=["*"])
    assert everything.keys() == {"id", "name", "weight", "age", *TIMESTAMPS}


def test_a_role_that_may_read_no_attribute_gets_no_wildcard(node: NodeProcess, become: Any) -> None:
    become(on_otter(table_rights("read", attributes=[attribute("name")])))
    assert in_otter(node, "search_by_id", ids=[1], get_attributes=["*"]) == (
        500,
        {"error": "'get_attributes' must contain at least 1 item"},
    )


def test_a_listed_primary_key_has_the_rights_it_is_given(node: NodeProcess, become: Any) -> None:
    become(on_otter(table_rights("read", "insert", attributes=[attribute("id"), attribute("name", "read", "insert")])))
    no_id = forbidden(unknown=["Attribute 'id' does not exist on 'zoo.otter'"])
    assert in_otter(node, "search_by_id", ids=[1], get_attributes=["id", "name"]) == no_id
    assert in_otter(node, "insert", records=[{"id": 70, "name": "x"}]) == no_id
    become(on_otter(table_rights("read", "insert", attributes=[attribute("name", "insert")])))
    assert in_otter(node, "insert", records=[{"id": 70, "name": "x"}])[0] == 200
    assert in_otter(node, "search_by_id", ids=[1], get_attributes=["id"]) == forbidden(
        missing_rights("zoo.otter", [], {"id": ["read"]})
    )
    node.post(operation="delete", database="zoo", table="otter", ids=[70])


def test_describe_shows_what_the_role_may_see(node: NodeProcess, become: Any) -> None:
    become({"zoo": {"tables": {"otter": CASCADE, "staff": table_rights("insert")}}, "sea": {"tables": {}}})
    status, everything = ask(node, "describe_all", user=TARKA)
    assert (status, everything.keys(), everything["zoo"].keys()) == (200, {"zoo"}, {"otter", "staff"})
    otter = {shown["attribute"] for shown in everything["zoo"]["otter"]["attributes"]}
    assert otter == {"id", "name", "weight", "__createdtime__"}
    staff = {shown["attribute"] for shown in everything["zoo"]["staff"]["attributes"]}
    assert staff == {"id", "name", *TIMESTAMPS}
    _, table = ask(node, "describe_table", user=TARKA, database="zoo", table="otter")
    assert {shown["attribute"] for shown in table["attributes"]} == otter
    _, database = ask(node, "describe_database", user=TARKA, database="zoo")
    assert database.keys() == {"otter", "staff"}
    metadata = "Your role does not have permission to view database metadata for 'system'"
    assert ask(node, "describe_database", user=TARKA, database="system") == forbidden(metadata)
    assert ask(node, "describe_table", user=TARKA, database="system", table="hdb_user") == forbidden(metadata)
    assert ask(node, "describe_table", user=TARKA, database="sea", table="fish") == forbidden(
        unknown=["Table 'sea.fish' does not exist"]
    )


def test_a_table_of_four_false_flags_is_invisible(node: NodeProcess, become: Any) -> None:
    become({"zoo": {"tables": {"otter": table_rights("read"), "staff": table_rights()}}})
    assert ask(node, "describe_all", user=TARKA)[1]["zoo"].keys() == {"otter"}
    assert ask(node, "describe_table", user=TARKA, database="zoo", table="staff") == forbidden(
        unknown=["Table 'zoo.staff' does not exist"]
    )


def test_a_role_for_a_database_is_limited_to_its_structure(node: NodeProcess, become: Any) -> None:
    become({"structure_user": ["zoo"], "zoo": {"tables": {"staff": table_rights()}}})
    assert ask(node, "create_table", user=TARKA, database="zoo", table="vole", primary_key="id")[0] == 200
    assert ask(node, "create_attribute", user=TARKA, database="zoo", table="vole", attribute="name")[0] == 200
    assert ask(node, "insert", user=TARKA, database="zoo", table="vole", records=[{"id": 1}])[0] == 200
    assert ask(node, "search_by_id", user=TARKA, database="zoo", table="staff", ids=[1], get_attributes=["*"])[0] == 200
    assert ask(node, "drop_attribute", user=TARKA, database="zoo", table="vole", attribute="name")[0] == 200
    assert ask(node, "drop_table", user=TARKA, database="zoo", table="vole")[0] == 200
    for operation in ("create_table", "drop_table", "create_attribute", "drop_attribute"):
        assert ask(node, operation, user=TARKA, database="sea", table="fish", attribute="name") == forbidden(
            f"User does not have access to perform '{operation}' against schema 'sea'"
        )
    for operation, name in (("create_database", "createSchema"), ("drop_database", "dropSchema")):
        assert ask(node, operation, user=TARKA, database="zoo") == forbidden(
            f"Operation '{name}' is restricted to 'super_user' roles"
        )


def test_a_structure_user_has_every_database_but_the_system(node: NodeProcess, become: Any) -> None:
    become({"structure_user": True})
    assert ask(node, "create_database", user=TARKA, database="pond")[0] == 200
    assert ask(node, "create_table", user=TARKA, database="pond", table="newt", primary_key="id")[0] == 200
    assert ask(node, "upsert", user=TARKA, database="pond", table="newt", records=[{"id": 1}])[0] == 200
    assert ask(node, "delete", user=TARKA, database="pond", table="newt", ids=[1])[0] == 200
    assert ask(node, "drop_database", user=TARKA, database="pond")[0] == 200
    status, _ = ask(
        node, "search_by_id", user=TARKA, database="system", table="hdb_user", ids=["admin"], get_attributes=["*"]
    )
    assert status == 403


def test_a_role_with_table_rights_may_not_change_structure(node: NodeProcess, become: Any) -> None:
    become(on_otter(table_rights(*FLAGS)))
    for operation, name in (
        ("create_table", "createTable"),
        ("drop_table", "dropTable"),
        ("drop_attribute", "dropAttribute"),
    ):
        assert ask(node, operation, user=TARKA, database="zoo", table="otter", attribute="age") == forbidden(
            f"Operation '{name}' is restricted to 'super_user' roles"
        )
    assert ask(node, "create_attribute", user=TARKA, database="zoo", table="otter", attribute="fur")[0] == 200


def test_a_new_attribute_follows_the_table_or_stays_hidden(node: NodeProcess, become: Any) -> None:
    node.post(operation="create_attribute", database="zoo", table="staff", attribute="desk")
    become({"zoo": {"tables": {"staff": table_rights("read")}}})
    where: dict[str, Any] = {"user": TARKA, "database": "zoo", "table": "staff", "ids": [1]}
    assert ask(node, "search_by_id", **where, get_attributes=["desk"])[0] == 200
    become({"zoo": {"tables": {"staff": table_rights("read", attributes=[attribute("name", "read")])}}})
    assert ask(node, "search_by_id", **where, get_attributes=["desk"]) == forbidden(
        unknown=["Attribute 'desk' does not exist on 'zoo.staff'"]
    )


def test_rights_follow_the_schema_as_it_changes(node: NodeProcess, become: Any) -> None:
    newt: dict[str, Any] = {"database": "zoo", "table": "newt"}
    node.post(operation="create_table", **newt, primary_key="id")
    node.post(operation="insert", **newt, records=[{"id": 1, "name": "Nell", "size": 2}])
    become({"zoo": {"tables": {"newt": table_rights("read", attributes=[attribute("name", "read")])}}})
    read: dict[str, Any] = {"user": TARKA, **newt, "ids": [1], "get_attributes": ["*"]}
    assert ask(node, "search_by_id", **read) == (200, [{"name": "Nell", "id": 1}])
    node.post(operation="drop_attribute", **newt, attribute="name")
    assert ask(node, "search_by_id", **read)[0] == 500
    node.post(operation="drop_table", **newt)
    assert ask(node, "describe_all", user=TARKA) == (200, {})
    assert ask(node, "search_by_id", **read) == forbidden(unknown=["database 'zoo' does not exist"])


def test_a_client_cannot_say_who_it_is_in_the_body(node: NodeProcess, become: Any) -> None:
    become({})
    forged = {"hdb_user": {"username": "admin", "role": {"permission": {"super_user": True}}}, "bypass_auth": True}
    status, info = ask(node, "user_info", user=TARKA, **forged)
    assert (status, info["username"]) == (200, "tarka")
    assert ask(node, "list_roles", user=TARKA, **forged)[0] == 403
