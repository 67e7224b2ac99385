"""Which operations a user may run, and the words of a refusal."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from ops.access import (
    TableUse,
    check_access,
    check_attributes,
    check_table_uses,
    requested_attributes,
    sees_database,
    visible_attributes,
    visible_tables,
)
from ops.context import User
from ops.errors import AccessDenied, OperationError, SystemProtected
from ops.operation import AnyUser, Describe, Need, Operation, StructureUser, SuperUser, TableRights
from ops.sections.records import names_in_records
from storage.schema import Table
from tests.ops.test_permissions import OTTERS, table_of
from tests.ops.user_node import OTTER, STAFF, permission_of

DATABASES: Mapping[str, Mapping[str, Table]] = {
    "zoo": {"otter": OTTERS, "staff": table_of(STAFF)},
    "park": {},
    "data": {"otter": table_of(OTTER, "data")},
    "system": {"hdb_user": table_of(OTTER, "system"), "hdb_job": table_of(OTTER, "system")},
}
TARGET = {"database": "zoo", "table": "otter"}
MESSAGE = "This operation is not authorized due to role restrictions and/or invalid database items"


async def nothing(ctx: Any, params: Any) -> None:
    """Never run."""


def operation_of(name: str, needs: Need, *, is_job: bool = False) -> Operation:
    return Operation(name=name, needs=needs, read=lambda body: body, handler=nothing, is_job=is_job)


def attributes_asked_for(body: Mapping[str, Any]) -> list[str]:
    return list(body.get("get_attributes", ()))


INSERT = operation_of("insert", TableRights(("insert",), names_in_records))
UPDATE = operation_of("update", TableRights(("update",), names_in_records))
UPSERT = operation_of("upsert", TableRights(("insert", "update"), names_in_records))
DELETE = operation_of("delete", TableRights(("delete",)))
SEARCH = operation_of("search_by_id", TableRights(("read",), attributes_asked_for))
LOAD = operation_of("csv_data_load", TableRights(("insert", "update")), is_job=True)
CREATE_DATABASE = operation_of("create_database", StructureUser("createSchema", of_database=False))
DROP_DATABASE = operation_of("drop_database", StructureUser("dropSchema", of_database=False))
CREATE_TABLE = operation_of("create_table", StructureUser("createTable"))
DROP_TABLE = operation_of("drop_table", StructureUser("dropTable"))
DROP_ATTRIBUTE = operation_of("drop_attribute", StructureUser("dropAttribute"))
CREATE_ATTRIBUTE = operation_of("create_attribute", StructureUser("createAttribute", or_table_right="insert"))
DESCRIBE_DATABASE = operation_of("describe_database", Describe())
DESCRIBE_TABLE = operation_of("describe_table", Describe(of_table=True))
LIST_USERS = operation_of("list_users", SuperUser("listUsersExternal"))
USER_INFO = operation_of("user_info", AnyUser())

SUPER = {"super_user": True}


def user_of(permission: Mapping[str, Any]) -> User:
    return User(name="tarka", role={"id": "keeper", "role": "keeper", "permission": permission})


def refusal(
    operation: Operation, permission: Mapping[str, Any], body: Mapping[str, Any], name: str | None = None
) -> tuple[list[Any], list[str]]:
    """What the refusal of a request says: unauthorized access, and invalid schema items."""
    with pytest.raises(AccessDenied) as refused:
        check_access(operation, name or operation.name, user_of(permission), body, DATABASES.get)
    body = refused.value.body
    assert refused.value.status == 403
    assert body["error"] == MESSAGE
    assert set(body) == {"error", "unauthorized_access", "invalid_schema_items"}
    return body["unauthorized_access"], body["invalid_schema_items"]


def allow(operation: Operation, permission: Mapping[str, Any], body: Mapping[str, Any]) -> None:
    """Raises unless the request is allowed."""
    check_access(operation, operation.name, user_of(permission), body, DATABASES.get)


def lacks(*rights: str, attributes: Mapping[str, list[str]] | None = None) -> list[Any]:
    listed = [{"attribute_name": n, "required_permissions": r} for n, r in (attributes or {}).items()]
    table = {"required_table_permissions": list(rights), "required_attribute_permissions": listed}
    return [{"schema": "zoo", "table": "otter", **table}]


# -- operation-level rules --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [None, {}])
def test_a_user_without_role_is_refused_every_operation(role: Any) -> None:
    with pytest.raises(AccessDenied) as refused:
        check_access(USER_INFO, "user_info", User(name="tarka", role=role), {}, DATABASES.get)
    assert refused.value.body["unauthorized_access"] == [
        "User tarka has no role or permissions.  Please assign the user a valid role."
    ]


def test_a_role_with_an_empty_permission_object_runs_what_every_user_may() -> None:
    allow(USER_INFO, {}, {})


def test_an_operation_for_super_users_names_its_internal_name() -> None:
    assert refusal(LIST_USERS, permission_of("ru"), {}) == (
        ["Operation 'listUsersExternal' is restricted to 'super_user' roles"],
        [],
    )


def test_a_super_user_runs_what_is_for_super_users() -> None:
    allow(LIST_USERS, SUPER, {})


@pytest.mark.parametrize("operation", [INSERT, UPDATE, UPSERT, DELETE, SEARCH, CREATE_TABLE, DROP_DATABASE])
def test_a_super_user_is_not_looked_at_closer_outside_of_the_nodes_own_tables(operation: Operation) -> None:
    allow(operation, SUPER, {"database": "nowhere", "table": "nothing"})


# -- structure users --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", [CREATE_DATABASE, DROP_DATABASE])
def test_a_structure_user_of_everything_makes_and_drops_databases(operation: Operation) -> None:
    allow(operation, {"structure_user": True}, {"database": "new"})


def test_a_structure_user_of_some_databases_makes_no_database() -> None:
    assert refusal(CREATE_DATABASE, {"structure_user": ["zoo"]}, {"database": "zoo"})[0] == [
        "Operation 'createSchema' is restricted to 'super_user' roles"
    ]


@pytest.mark.parametrize("operation", [CREATE_TABLE, DROP_TABLE, DROP_ATTRIBUTE, CREATE_ATTRIBUTE])
@pytest.mark.parametrize("structure_user", [True, ["zoo"]])
def test_a_structure_user_changes_the_schema_of_its_databases(operation: Operation, structure_user: Any) -> None:
    allow(operation, {"structure_user": structure_user}, {**TARGET, "attribute": "colour"})


@pytest.mark.parametrize("name", ["create_table", "drop_table", "drop_attribute", "create_attribute"])
def test_a_structure_user_of_another_database_is_told_the_operation_and_the_database(name: str) -> None:
    operation = {o.name: o for o in (CREATE_TABLE, DROP_TABLE, DROP_ATTRIBUTE, CREATE_ATTRIBUTE)}[name]
    assert refusal(operation, {"structure_user": ["zoo"]}, {"database": "park", "table": "tree"}) == (
        [f"User does not have access to perform '{name}' against schema 'park'"],
        [],
    )


def test_a_plain_role_making_a_table_is_told_that_it_is_for_super_users() -> None:
    assert refusal(CREATE_TABLE, permission_of("riud"), TARGET)[0] == [
        "Operation 'createTable' is restricted to 'super_user' roles"
    ]


def test_a_structure_user_has_every_record_right_in_its_database() -> None:
    for operation in (INSERT, UPDATE, UPSERT, DELETE, SEARCH):
        allow(operation, {"structure_user": ["zoo"]}, TARGET)


def test_a_role_that_may_insert_makes_attributes() -> None:
    allow(CREATE_ATTRIBUTE, permission_of("i"), {**TARGET, "attribute": "colour"})


def test_a_structure_user_of_another_database_that_may_insert_here_makes_attributes() -> None:
    allow(CREATE_ATTRIBUTE, permission_of("i", structure_user=["park"]), {**TARGET, "attribute": "colour"})


def test_a_role_that_may_not_insert_makes_no_attribute() -> None:
    assert refusal(CREATE_ATTRIBUTE, permission_of("ru"), {**TARGET, "attribute": "colour"}) == (lacks("insert"), [])


def test_a_role_with_attribute_permissions_makes_no_new_attribute() -> None:
    permission = permission_of("riu", ("name", "riu"))
    assert refusal(CREATE_ATTRIBUTE, permission, {**TARGET, "attribute": "colour"}) == (
        [],
        ["Attribute 'colour' does not exist on 'zoo.otter'"],
    )


# -- describe ---------------------------------------------------------------------------------------------------------


def test_a_role_describes_a_table_on_which_it_has_any_right() -> None:
    allow(DESCRIBE_TABLE, permission_of("d"), TARGET)
    allow(DESCRIBE_DATABASE, permission_of("d"), {"database": "zoo"})


def test_a_hidden_table_is_described_as_one_that_does_not_exist() -> None:
    hidden = refusal(DESCRIBE_TABLE, permission_of("r"), {"database": "zoo", "table": "staff"})
    absent = refusal(DESCRIBE_TABLE, permission_of("r"), {"database": "zoo", "table": "nothing"})
    assert hidden == ([], ["Table 'zoo.staff' does not exist"])
    assert absent == ([], ["Table 'zoo.nothing' does not exist"])


@pytest.mark.parametrize("database", ["park", "nowhere"])
def test_a_hidden_database_is_described_as_one_that_does_not_exist(database: str) -> None:
    items = [f"database '{database}' does not exist"]
    assert refusal(DESCRIBE_DATABASE, permission_of("r"), {"database": database}) == ([], items)
    items = [f"Table '{database}.x' does not exist"]
    assert refusal(DESCRIBE_TABLE, permission_of("r"), {"database": database, "table": "x"}) == ([], items)


@pytest.mark.parametrize("permission", [permission_of("r"), {"structure_user": True}])
def test_only_super_users_describe_the_nodes_own_database(permission: dict[str, Any]) -> None:
    assert refusal(DESCRIBE_DATABASE, permission, {"database": "system"}) == (
        ["Your role does not have permission to view database metadata for 'system'"],
        [],
    )
    allow(DESCRIBE_DATABASE, SUPER, {"database": "system"})


# -- tables -----------------------------------------------------------------------------------------------------------


def test_a_missing_table_right_is_named_with_its_table() -> None:
    assert refusal(INSERT, permission_of("ru"), TARGET) == (lacks("insert"), [])


def test_upsert_needs_insert_and_update() -> None:
    assert refusal(UPSERT, permission_of("r"), TARGET) == (lacks("insert", "update"), [])
    assert refusal(UPSERT, permission_of("ri"), TARGET) == (lacks("update"), [])


@pytest.mark.parametrize(("operation", "rights"), [(INSERT, "i"), (UPDATE, "u"), (UPSERT, "iu"), (DELETE, "d")])
def test_a_role_with_the_needed_rights_is_allowed(operation: Operation, rights: str) -> None:
    allow(operation, permission_of(rights), TARGET)


def test_a_table_that_the_role_does_not_list_does_not_exist() -> None:
    assert refusal(SEARCH, permission_of("ru"), {"database": "zoo", "table": "staff"}) == (
        [],
        ["Table 'zoo.staff' does not exist"],
    )


def test_a_database_that_the_role_does_not_list_does_not_exist() -> None:
    body = {"database": "park", "table": "otter"}
    assert refusal(SEARCH, permission_of("ru"), body) == ([], ["database 'park' does not exist"])


def test_leaving_the_database_out_checks_the_default_one() -> None:
    assert refusal(SEARCH, permission_of("ru"), {"table": "otter"}) == ([], ["database 'data' does not exist"])


def test_database_wins_over_schema_in_the_check_as_in_the_execution() -> None:
    body = {"database": "data", "schema": "zoo", "table": "otter"}
    assert refusal(SEARCH, permission_of("ru"), body) == ([], ["database 'data' does not exist"])


def test_a_name_sent_as_number_is_checked_as_its_text() -> None:
    assert refusal(SEARCH, permission_of("ru"), {"database": "zoo", "table": 7}) == (
        [],
        ["Table 'zoo.7' does not exist"],
    )


@pytest.mark.parametrize("action", ["insert", "update"])
def test_the_action_of_a_bulk_load_narrows_what_it_needs(action: str) -> None:
    allow(LOAD, permission_of(action[0]), {**TARGET, "action": action})


@pytest.mark.parametrize("action", ["upsert", "delete", None, ["update"]])
def test_any_other_action_leaves_both_rights_needed(action: Any) -> None:
    assert refusal(LOAD, permission_of("u"), {**TARGET, "action": action}) == (lacks("insert"), [])


def test_a_bulk_load_without_action_needs_both_rights() -> None:
    assert refusal(LOAD, permission_of("u"), TARGET) == (lacks("insert"), [])


def test_an_action_does_not_narrow_what_a_record_operation_needs() -> None:
    assert refusal(UPSERT, permission_of("u"), {**TARGET, "action": "update"}) == (lacks("insert"), [])


# -- attributes -------------------------------------------------------------------------------------------------------


def test_an_implicit_primary_key_may_be_inserted_with_a_listed_attribute() -> None:
    allow(INSERT, permission_of("i", ("name", "i")), {**TARGET, "records": [{"id": 1, "name": "a"}]})


def test_an_unlisted_attribute_in_an_insert_does_not_exist() -> None:
    body = {**TARGET, "records": [{"id": 1, "name": "a"}, {"id": 2, "age": 3}]}
    assert refusal(INSERT, permission_of("i", ("name", "i")), body) == (
        [],
        ["Attribute 'age' does not exist on 'zoo.otter'"],
    )


def test_a_visible_attribute_that_may_not_be_updated_is_named_with_the_missing_right() -> None:
    permission = permission_of("riu", ("name", "riu"), ("weight", "r"))
    body = {**TARGET, "records": [{"id": 1, "weight": 2}]}
    assert refusal(UPDATE, permission, body) == (lacks(attributes={"weight": ["update"]}), [])


def test_all_findings_on_attributes_come_in_one_answer() -> None:
    permission = permission_of("riu", ("name", "r"), ("weight", "ri"))
    body = {**TARGET, "records": [{"id": 1, "name": "a", "weight": 2, "age": 3}]}
    assert refusal(UPSERT, permission, body) == (
        lacks(attributes={"id": ["update"], "name": ["insert", "update"], "weight": ["update"]}),
        ["Attribute 'age' does not exist on 'zoo.otter'"],
    )


def test_findings_on_the_table_hide_those_on_attributes() -> None:
    body = {**TARGET, "records": [{"id": 1, "age": 3}]}
    assert refusal(INSERT, permission_of("r", ("name", "r")), body) == (lacks("insert"), [])


def test_writing_a_listed_time_is_refused_with_a_text_of_its_own() -> None:
    permission = permission_of("riu", ("name", "riu"), ("__createdtime__", "r"))
    body = {**TARGET, "records": [{"id": 1, "__createdtime__": 5}]}
    with pytest.raises(OperationError) as refused:
        allow(INSERT, permission, body)
    assert (refused.value.status, refused.value.body) == (
        403,
        {
            "error": "Internal timestamp attributes - '__createdtime_' and '__updatedtime__' - "
            "cannot be inserted to or updated by HDB users."
        },
    )


def test_writing_an_unlisted_time_is_refused_as_an_unknown_attribute() -> None:
    body = {**TARGET, "records": [{"id": 1, "__createdtime__": 5}]}
    assert refusal(INSERT, permission_of("i", ("name", "i")), body)[1] == [
        "Attribute '__createdtime__' does not exist on 'zoo.otter'"
    ]


def test_a_read_of_an_unlisted_attribute_is_refused() -> None:
    body = {**TARGET, "get_attributes": ["name", "age"]}
    assert refusal(SEARCH, permission_of("r", ("name", "r")), body)[1] == [
        "Attribute 'age' does not exist on 'zoo.otter'"
    ]


def test_a_read_of_an_attribute_that_may_only_be_written_is_refused() -> None:
    permission = permission_of("riu", ("name", "r"), ("age", "u"))
    body = {**TARGET, "get_attributes": ["age"]}
    assert refusal(SEARCH, permission, body) == (lacks(attributes={"age": ["read"]}), [])


@pytest.mark.parametrize("wildcard", ["*", "%"])
def test_a_wildcard_is_no_attribute_of_a_read(wildcard: str) -> None:
    allow(SEARCH, permission_of("r", ("name", "r")), {**TARGET, "get_attributes": [wildcard]})


def test_a_wildcard_is_an_attribute_of_a_write() -> None:
    body = {**TARGET, "records": [{"id": 1, "*": 2}]}
    assert refusal(INSERT, permission_of("i", ("name", "i")), body)[1] == [
        "Attribute '*' does not exist on 'zoo.otter'"
    ]


def test_an_attribute_name_that_is_no_text_does_not_exist() -> None:
    body = {**TARGET, "get_attributes": [{"name": "age"}]}
    assert refusal(SEARCH, permission_of("r", ("name", "r")), body)[1] == [
        "Attribute '{'name': 'age'}' does not exist on 'zoo.otter'"
    ]


def test_delete_has_no_attribute_level() -> None:
    allow(DELETE, permission_of("d", ("name", "")), {**TARGET, "ids": [1]})


def test_attributes_that_a_job_meets_are_checked_on_their_own() -> None:
    user = user_of(permission_of("iu", ("name", "iu"), ("age", "i")))
    check_attributes(user, OTTERS, ("insert", "update"), ["id", "name"])
    with pytest.raises(AccessDenied) as refused:
        check_attributes(user, OTTERS, ("insert", "update"), ["age"])
    assert refused.value.body["unauthorized_access"] == lacks(attributes={"age": ["update"]})


# -- the node's own tables --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", [INSERT, UPDATE, UPSERT, DELETE])
@pytest.mark.parametrize("table", ["hdb_user", "hdb_role", "hdb_nodes"])
def test_a_super_user_writes_users_roles_and_nodes(operation: Operation, table: str) -> None:
    allow(operation, SUPER, {"database": "system", "table": table})


@pytest.mark.parametrize("operation", [UPDATE, UPSERT, DELETE, CREATE_TABLE, DROP_TABLE, DROP_ATTRIBUTE, DROP_DATABASE])
@pytest.mark.parametrize("permission", [SUPER, {"structure_user": True}, permission_of("riud")])
def test_nobody_changes_the_nodes_other_tables(operation: Operation, permission: dict[str, Any]) -> None:
    with pytest.raises(SystemProtected) as refused:
        allow(operation, permission, {"database": "system", "table": "hdb_job"})
    assert refused.value.body == {
        "error": "The 'system' database, tables and records are used internally by HarperDB and cannot be updated "
        "or removed."
    }


@pytest.mark.parametrize("operation", [INSERT, CREATE_ATTRIBUTE])
def test_a_super_user_lacks_insert_on_the_nodes_other_tables(operation: Operation) -> None:
    body = {"database": "system", "table": "hdb_job", "attribute": "colour"}
    assert refusal(operation, SUPER, body)[0] == [
        {
            "schema": "system",
            "table": "hdb_job",
            "required_table_permissions": ["insert"],
            "required_attribute_permissions": [],
        }
    ]


def test_a_super_user_reads_the_nodes_own_tables() -> None:
    allow(SEARCH, SUPER, {"database": "system", "table": "hdb_job"})


@pytest.mark.parametrize("permission", [permission_of("r"), {"structure_user": True}])
@pytest.mark.parametrize("operation", [INSERT, SEARCH, CREATE_ATTRIBUTE])
def test_for_others_the_nodes_own_database_does_not_exist(operation: Operation, permission: dict[str, Any]) -> None:
    body = {"database": "system", "table": "hdb_user"}
    assert refusal(operation, permission, body) == ([], ["database 'system' does not exist"])


# -- statements over several tables -----------------------------------------------------------------------------------


def denied(permission: Mapping[str, Any], *uses: TableUse) -> AccessDenied:
    with pytest.raises(AccessDenied) as refused:
        check_table_uses(user_of(permission), uses, DATABASES.get)
    return refused.value


def test_a_statement_is_told_all_tables_that_are_wrong() -> None:
    uses = (
        TableUse(database="zoo", table="otter", rights=("update",), attributes=("name",)),
        TableUse(database="zoo", table="staff", rights=("read",)),
        TableUse(database="park", table="tree", rights=("read",)),
    )
    body = denied(permission_of("r"), *uses).body
    assert body["unauthorized_access"] == lacks("update")
    assert body["invalid_schema_items"] == ["Table 'zoo.staff' does not exist", "database 'park' does not exist"]


def test_uses_of_one_table_are_told_together() -> None:
    uses = (
        TableUse(database="zoo", table="otter", rights=("update",), attributes=("weight",)),
        TableUse(database="zoo", table="otter", rights=("read",), attributes=("weight", "age")),
    )
    permission = permission_of("ru", ("weight", "u"), ("name", "r"))
    body = denied(permission, uses[1]).body
    assert body["unauthorized_access"] == lacks(attributes={"weight": ["read"]})
    assert body["invalid_schema_items"] == ["Attribute 'age' does not exist on 'zoo.otter'"]
    assert denied(permission_of("ru", ("weight", "r"), ("name", "u")), uses[0]).body["unauthorized_access"] == lacks(
        attributes={"weight": ["update"]}
    )


def test_a_statement_of_a_super_user_may_name_unknown_tables() -> None:
    use = TableUse(database="zoo", table="nothing", rights=("update",), attributes=("x",))
    check_table_uses(user_of(SUPER), (use,), DATABASES.get)


@pytest.mark.parametrize("right", ["update", "delete"])
def test_no_statement_changes_the_nodes_own_tables(right: str) -> None:
    with pytest.raises(SystemProtected):
        use = TableUse(database="system", table="hdb_user", rights=(right,))
        check_table_uses(user_of(SUPER), (use,), DATABASES.get)


def test_no_statement_inserts_into_the_nodes_own_tables() -> None:
    use = TableUse(database="system", table="hdb_user", rights=("insert",))
    (found,) = denied(SUPER, use).body["unauthorized_access"]
    assert found["required_table_permissions"] == ["insert"]


# -- what handlers ask ------------------------------------------------------------------------------------------------


def test_only_visible_tables_are_shown() -> None:
    assert list(visible_tables(user_of(permission_of("d")), DATABASES["zoo"])) == ["otter"]


def test_a_database_without_visible_table_is_not_shown() -> None:
    user = user_of(permission_of("r"))
    assert sees_database(user, "zoo", DATABASES["zoo"])
    assert not sees_database(user, "data", DATABASES["data"])


@pytest.mark.parametrize(
    ("permission", "shown"),
    [
        (SUPER, tuple(OTTERS.attributes)),
        (permission_of("d"), tuple(OTTERS.attributes)),
        ({"structure_user": True}, tuple(OTTERS.attributes)),
        (
            permission_of("riu", ("weight", "u"), ("name", ""), ("__createdtime__", "r")),
            ("id", "__createdtime__", "weight"),
        ),
    ],
)
def test_only_visible_attributes_are_shown_in_table_order(permission: Any, shown: tuple[str, ...]) -> None:
    assert visible_attributes(user_of(permission), OTTERS) == shown


@pytest.mark.parametrize("asked", [None, [], ["*"], ["%"], ["*", "age"]])
def test_a_wildcard_and_leaving_it_out_stand_for_the_readable_attributes(asked: list[str] | None) -> None:
    user = user_of(permission_of("riu", ("weight", "r"), ("name", "r"), ("age", "u")))
    assert requested_attributes(user, OTTERS, asked) == ("name", "weight", "id")


def test_a_wildcard_that_is_not_first_is_expanded_in_place() -> None:
    user = user_of(permission_of("r", ("weight", "r"), ("name", "r")))
    assert requested_attributes(user, OTTERS, ["weight", "*"]) == ("weight", "name", "id")


@pytest.mark.parametrize("permission", [SUPER, permission_of("r"), {"structure_user": True}])
@pytest.mark.parametrize("asked", [None, ["*"], ["name", "*"]])
def test_without_attribute_permissions_a_request_is_taken_as_sent(permission: Any, asked: list[str] | None) -> None:
    assert requested_attributes(user_of(permission), OTTERS, asked) is asked


def test_a_wildcard_of_a_role_that_reads_no_attribute_is_an_empty_list() -> None:
    with pytest.raises(OperationError, match=r"^'get_attributes' must contain at least 1 item$") as refused:
        requested_attributes(user_of(permission_of("ru", ("name", "u"))), OTTERS, ["*"])
    assert refused.value.status == 500


def test_every_check_reads_the_schema_as_it_is_at_that_moment() -> None:
    databases: dict[str, Mapping[str, Table]] = {"zoo": {}}
    schemas: Callable[[str], Mapping[str, Table] | None] = databases.get
    user = user_of(permission_of("r"))
    with pytest.raises(AccessDenied):
        check_access(SEARCH, "search_by_id", user, TARGET, schemas)
    databases["zoo"] = DATABASES["zoo"]
    check_access(SEARCH, "search_by_id", user, TARGET, schemas)
