"""A node with a few animals and the permissions that roles get on them.

It stores passwords with SHA-256: tests of users and roles change them all the time, each change makes the node forget
whom it has checked, and the default function is slow on purpose.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.node_process import NodeProcess
from tests.scenarios.asking import ask

TARKA = ("tarka", "Water-1")
FLAGS = ("read", "insert", "update", "delete")
TIMESTAMPS = ("__createdtime__", "__updatedtime__")


@contextmanager
def zoo_node(root: Path) -> Iterator[NodeProcess]:
    with NodeProcess(root, options=["--set", "authentication.hashFunction=sha256"]) as node:
        for database, table in (("zoo", "otter"), ("zoo", "staff"), ("sea", "fish")):
            node.post(operation="create_table", database=database, table=table, primary_key="id")
        tarka = {"id": 1, "name": "Tarka", "weight": 9, "age": 3}
        node.post(operation="insert", database="zoo", table="otter", records=[tarka])
        node.post(operation="insert", database="zoo", table="staff", records=[{"id": 1, "name": "Ring"}])
        node.post(operation="insert", database="sea", table="fish", records=[{"id": 1, "name": "Eel"}])
        yield node
        assert node.stop() == 0


@contextmanager
def tarka_with(node: NodeProcess) -> Iterator[Any]:
    """Gives a function that gives the user ``tarka`` a role with a permission; both are gone afterwards."""

    def become(permission: Any) -> None:
        if ask(node, "alter_role", id="keeper", permission=permission)[0] != 200:
            status, answer = ask(node, "add_role", role="keeper", permission=permission)
            assert status == 200, answer
            node.post(operation="add_user", username=TARKA[0], password=TARKA[1], role="keeper", active=True)

    yield become
    ask(node, "drop_user", username=TARKA[0])
    ask(node, "drop_role", id="keeper")


def table_rights(*granted: str, attributes: Any = ()) -> dict[str, Any]:
    attributes = attributes if attributes is None else list(attributes)
    return {flag: flag in granted for flag in FLAGS} | {"attribute_permissions": attributes}


def attribute(name: str, *granted: str) -> dict[str, Any]:
    return {"attribute_name": name, **{flag: flag in granted for flag in FLAGS[:3]}}


def on_otter(rights: Any) -> dict[str, Any]:
    return {"super_user": False, "zoo": {"tables": {"otter": rights}}}
