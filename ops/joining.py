"""Adding another node: a handshake of two, and what each writes down afterwards.

This node asks the other one over a connection of its own, with the other's credentials, to add it back; what comes back
(a certificate where one was needed, the other's name and authority) makes the other one a member here. Nothing is
changed here before a usable answer came, unless none is needed. A client asks for it by ``add_node``; a node that is
told to join does it by itself, without a request.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import trio
from cryptography import x509

from ops.add_node_params import AddNode, resolved
from ops.certificate_details import certificate_details
from ops.context import Certificates
from ops.errors import InvalidParams, OperationError
from replication.agreements import Subscription, reversed_subscriptions
from replication.cluster import Cluster
from replication.connection import Target
from replication.errors import ReplicationError
from replication.membership_changes import add_member, put_self
from storage.database import WriteFunction
from storage.write_transaction import WriteTransaction

JOIN_TIMEOUT_S: Final = 30.0

Write: TypeAlias = Callable[[WriteFunction], Awaitable[Any]]
"""One transaction on database ``system``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Handshake:
    """What the other node answered; ``problem`` where it was not reached and need not have been."""

    name: str
    fields: Mapping[str, Any]
    own_epoch: int = 0
    epoch: int = 0
    problem: str | None = None


class Joining:
    """``await joining.add(request)``."""

    def __init__(self, cluster: Cluster, certificates: Certificates, write: Write) -> None:
        self._cluster = cluster
        self._certificates = certificates
        self._write = write

    def resolved(self, params: AddNode) -> AddNode:
        """The request with the other's URL. Raises ``InvalidParams``, also where the other node is this one."""
        cluster, ports = self._cluster, self._cluster.ports
        return resolved(params, own_name=cluster.name, own_url=cluster.url, secure_port=ports.secure, port=ports.plain)

    async def add(self, params: AddNode, *, needs_answer: bool = False, authorities_pem: str | None = None) -> str:
        """Have the other node add this one, then add it here; the message for who asked.

        A node that does not answer is added all the same where nothing of it is needed, unless ``needs_answer``.
        ``authorities_pem`` are the only ones that its certificate may come from. Raises ``OperationError``.
        """
        cluster = self._cluster
        wanted = self.resolved(params)
        done = await self._shake_hands(wanted, needs_answer=needs_answer, authorities_pem=authorities_pem)
        fields = {**member_fields(wanted, given_only=False), **done.fields}

        def store(tx: WriteTransaction) -> None:
            put_self(tx, cluster.watch.own, cluster.watch.routes, is_added=True, epoch_at_least=done.own_epoch)
            add_member(tx, done.name, epoch_at_least=done.epoch, **fields)
            put_self(tx, cluster.watch.own, cluster.watch.routes)

        await self._write(store)
        message = f"Successfully added '{params.label}' to cluster"
        if done.problem is None:
            return message
        return f"{message} but there was an error updating target node: {done.problem}"

    async def _shake_hands(self, wanted: AddNode, *, needs_answer: bool, authorities_pem: str | None) -> _Handshake:
        """Have the other node add us. Raises ``OperationError`` where we need something of it and get nothing."""
        assert wanted.url is not None, "a resolved request has a URL"
        is_secure = wanted.url.startswith("wss://")
        needs_signature = is_secure and (wanted.force_signing or await self._certificates.needs_signature())
        request = await self._request(wanted, is_secure=is_secure, needs_signature=needs_signature)
        target = Target(
            url=wanted.url,
            name=wanted.name if wanted.verify_tls else None,
            verifies=wanted.verify_tls,
            authorities_pem=authorities_pem,
            shows_certificate=wanted.authorization is None,
            authorization=wanted.authorization,
        )
        try:
            answer = await self._cluster.ask(target, request, timeout_s=JOIN_TIMEOUT_S)
        except (ReplicationError, trio.TooSlowError) as error:
            reason = f"Error returned from {wanted.url}: {error}"
            if needs_signature:
                raise OperationError(f"{reason} and connection was required to sign certificate", status=500) from error
            if needs_answer:
                raise OperationError(reason, status=500) from error
            return _Handshake(name=wanted.name, fields={}, problem=reason)
        return await self._accepted(wanted, answer, needs_signature=needs_signature)

    async def _request(self, wanted: AddNode, *, is_secure: bool, needs_signature: bool) -> dict[str, Any]:
        cluster = self._cluster
        own = cluster.watch.membership.self_member
        request: dict[str, Any] = {
            "operation": "add_node_back",
            "hostname": cluster.name,
            "target_hostname": wanted.name,
            "url": cluster.url,
            "subscriptions": None
            if wanted.subscriptions is None
            else [_plain_subscription(one) for one in reversed_subscriptions(wanted.subscriptions) or ()],
            "epoch": 0 if own is None else own.epoch,
        }
        if needs_signature:
            request["csr"] = (await self._certificates.create_csr()).pem
        elif is_secure:
            request["cert_auth"] = await self._certificates.authority_pem()
        if wanted.retain_authorization and wanted.authorization is not None:
            request["authorization"] = wanted.authorization
        if cluster.shard is not None:
            request["shard"] = cluster.shard
        if "replicates" in wanted.given:
            request["replicates"] = wanted.replicates.reversed().encoded()
        return request

    async def _accepted(self, wanted: AddNode, answer: Any, *, needs_signature: bool) -> _Handshake:
        unexpected = f"Unexpected certificate signature response from node {wanted.url}"
        if not isinstance(answer, Mapping) or not isinstance(answer.get("nodeName"), str):
            raise OperationError(unexpected, status=500)
        if needs_signature:
            certificate, authority = answer.get("certificate"), answer.get("signingCA")
            if not isinstance(certificate, str) or not isinstance(authority, str):
                raise OperationError(unexpected, status=500)
            try:
                await self._certificates.accept_signed(certificate, authority)
            except InvalidParams as error:
                raise OperationError(f"{unexpected}: {error}", status=500) from error
            # Who hears of this node later has to trust the authority of what it shows from now on.
            watch = self._cluster.watch
            watch.own = replace(watch.own, **authority_fields(authority))
        fields = dict(authority_fields(answer.get("usingCA")))
        if isinstance(answer.get("shard"), int):
            fields["shard"] = answer["shard"]
        return _Handshake(
            name=answer["nodeName"],
            fields=fields,
            own_epoch=stored_epoch(answer.get("yourEpoch")),
            epoch=stored_epoch(answer.get("epoch")),
        )


def member_fields(wanted: AddNode, *, given_only: bool) -> dict[str, Any]:
    """What of a request goes into the rows. A full add sets all that concerns the agreement anew."""
    fields: dict[str, Any] = {
        "url": wanted.url,
        "subscriptions": wanted.subscriptions,
        "verify_tls": wanted.verify_tls,
        "start_time_ms": wanted.start_time_ms,
        "is_leader": wanted.is_leader,
        "shard": wanted.shard,
        "replicates": wanted.replicates,
    }
    optional = {"shard", "replicates"}
    kept = {
        name: value
        for name, value in fields.items()
        if name in wanted.given or (not given_only and name not in optional)
    }
    if wanted.revoked:
        kept["revoked"] = wanted.revoked
    if wanted.retain_authorization or not given_only:
        kept["authorization"] = wanted.authorization if wanted.retain_authorization else None
    return kept


def authority_fields(pem: Any) -> dict[str, Any]:
    """``ca`` and ``ca_info`` of a member's row; {} for what is no certificate."""
    if not isinstance(pem, str):
        return {}
    try:
        details = certificate_details(x509.load_pem_x509_certificate(pem.encode()))
    except ValueError:
        return {}
    names = {"subject_alt_name": "subjectAltName", "serial_number": "serialNumber"}
    names |= {"valid_from": "validFrom", "valid_to": "validTo"}
    return {"ca": pem, "ca_info": {names.get(name, name): value for name, value in details.items()}}


def stored_epoch(value: Any) -> int:
    """An epoch as another node or a row has it, 0 for what is none."""
    return value if type(value) is int and 0 <= value < 1 << 53 else 0


def _plain_subscription(one: Subscription) -> dict[str, Any]:
    return {"database": one.database, "table": one.table, "subscribe": one.subscribe, "publish": one.publish}
