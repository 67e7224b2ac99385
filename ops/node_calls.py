"""Operations that other nodes ask of this one, over their control connections.

An authenticated member acts with the authority of a super user. Who came with credentials alone, to join, may call
little more than the join itself.
"""

import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, Final

from ops.access import check_access
from ops.content_types import wrap_result
from ops.context import Context, NodeCaller, Services, User
from ops.dispatch import SERVER_OWNED
from ops.errors import UNEXPECTED, AccessDenied, UnknownOperation, answer_for
from ops.http import Peer, Request
from ops.operation import Operation
from ops.results import Download, RecordList, RecordStream, WithHeaders
from replication.connection import PeerIdentity
from replication.remote_calls import Answer
from storage.errors import DatabaseError

log = logging.getLogger("ops")

BEFORE_JOINING: Final = frozenset(("add_node_back", "sign_certificate", "cluster_status", "user_info"))
"""What a node may ask that is not known yet, on the credentials of a super user."""
SUPER_USER_ROLE: Final[Mapping[str, Any]] = {"role": "super_user", "permission": {"super_user": True}}
RECORDS_MAX: Final = 100_000
"""Records of one answer to a node; who wants more reads in pages."""


class NodeCalls:
    """``await node_calls(identity, name, operation)``: a ``replication.remote_calls.Handler``."""

    def __init__(self, services: Callable[[], Services], operations: Mapping[str, Operation]) -> None:
        """``services`` is asked at each call: it names the cluster, whose handler this is."""
        self._services = services
        self._operations = operations

    async def __call__(self, identity: PeerIdentity, name: str, sent: Mapping[str, Any]) -> Answer:
        try:
            body = {key: value for key, value in sent.items() if key not in SERVER_OWNED}
            return 200, await self._run(identity, name, body)
        except DatabaseError as error:
            status, answer = answer_for(error)
            return status, dict(answer)
        except Exception:
            log.exception("an operation for '%s' failed unexpectedly", name)
            return 500, {"error": UNEXPECTED}

    async def _run(self, identity: PeerIdentity, name: str, body: dict[str, Any]) -> Any:
        called = body.get("operation")
        operation = self._operations.get(called) if isinstance(called, str) else None
        if operation is None:
            raise UnknownOperation(str(called))
        if identity.name is None and called not in BEFORE_JOINING:
            raise AccessDenied
        user = User(name=f"node {name}", role=SUPER_USER_ROLE)
        check_access(operation, str(called), user, body, lambda _: None)
        context = Context(
            services=self._services(),
            user=user,
            request=Request(method="POST", target="/", headers={}, body=b"", peer=Peer(address=identity.address)),
            body=body,
            operation=str(called),
            caller=NodeCaller(name=name, is_member=identity.name is not None),
        )
        return await _plain(await operation.handler(context, operation.read(body)))


async def _plain(result: Any) -> Any:
    """An answer as one value of the CBOR value model."""
    match result:
        case WithHeaders():
            return await _plain(result.result)
        case RecordList():
            return list(result.records)
        case RecordStream():
            return await _gathered(result.pages)
        case Download():
            raise UnknownOperation("a download is not sent to nodes")
        case _:
            return wrap_result(result)


async def _gathered(pages: AsyncGenerator[Sequence[Any], None]) -> list[Any]:
    records: list[Any] = []
    async for page in pages:
        records.extend(page)
        if len(records) > RECORDS_MAX:
            raise DatabaseError(f"an answer of more than {RECORDS_MAX} records is not sent to nodes")
    return records
