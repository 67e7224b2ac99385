"""What the black-box tests share: an operation as somebody, its status and its decoded body."""

import json
import shutil
from base64 import b64encode
from pathlib import Path
from typing import Any

import httpx

from tests.node_process import NodeProcess

KEY_FILES = (".jwtPrivate.key", ".jwtPublic.key", ".jwtPass")
Answer = tuple[int, Any]
Credentials = tuple[str, str]
NOT_AUTHORIZED = "This operation is not authorized due to role restrictions and/or invalid database items"


def ask(node: NodeProcess, operation: str, *, user: Credentials | None = None, **fields: Any) -> Answer:
    """The answer to an operation of ``user``, without one of the administrator."""
    options: dict[str, Any] = {} if user is None else {"auth": user}
    response = node.request({"operation": operation, **fields}, **options)
    return response.status_code, response.json()


def forbidden(*unauthorized: Any, unknown: list[str] | None = None) -> Answer:
    """The answer to who may not: the refusals, and what does not exist as far as the role may know."""
    return 403, {
        "error": NOT_AUTHORIZED,
        "unauthorized_access": list(unauthorized),
        "invalid_schema_items": unknown or [],
    }


def missing_rights(table: str, rights: list[str], attributes: dict[str, list[str]] | None = None) -> dict[str, Any]:
    """A table object of a refusal: the rights of ``database.table`` and of its attributes that are missing."""
    database, name = table.split(".")
    return {
        "schema": database,
        "table": name,
        "required_table_permissions": rights,
        "required_attribute_permissions": [
            {"attribute_name": attribute, "required_permissions": missing}
            for attribute, missing in (attributes or {}).items()
        ],
    }


def send(
    node: NodeProcess, body: Any, headers: dict[str, str] | None = None, *, scheme: str = "https"
) -> httpx.Response:
    """The response to an operation with these headers alone: no credentials but those among them."""
    sent = {"content-type": "application/json", **(headers or {})}
    return httpx.post(node.url(scheme), content=json.dumps(body), headers=sent, verify=False, trust_env=False)


def basic(username: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + b64encode(f"{username}:{password}".encode()).decode()}


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def with_keys_of(node: NodeProcess, root: Path) -> Path:
    """A root folder whose node will sign tokens with the keys of ``node``: to make keys takes a second, and a
    new node does it in the background."""
    node.post(operation="create_authentication_tokens")
    (root / "keys").mkdir(parents=True)
    for name in KEY_FILES:
        shutil.copy(node.root / "keys" / name, root / "keys" / name)
    return root
