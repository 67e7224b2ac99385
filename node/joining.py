"""Joining a cluster without being asked: a node that is configured to, and knows nobody, asks the members one by one.

It happens once in a node's life, which a file in the root folder remembers: a node that was removed later must not join
itself back. Until somebody answers the node serves alone, and may be joined by others meanwhile; then there is nothing
left to ask for.
"""

import logging
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import trio

from node.certificate_files import Unusable, parse_chain, read_bytes
from node.configuration_file import replace_file
from node.settings import FirstAdministrator
from ops.add_node_params import OWN_NAME, AddNode, add_node_params
from ops.errors import InvalidParams
from ops.joining import Joining
from replication.cluster import Cluster
from storage.errors import DatabaseError
from storage.log_levels import NOTIFY

log = logging.getLogger("replication")

MARK_NAME: Final = ".joined"
DELAY_S_MIN: Final = 0.5
DELAY_S_MAX: Final = 30.0
"""The delays of links, as it is the same peers that are waited for."""


class JoinService:
    """``run`` ends when the node is a member, or need not become one."""

    def __init__(
        self,
        cluster: Cluster,
        joining: Joining,
        hosts: Sequence[str],
        *,
        credentials: FirstAdministrator,
        authorities: Path | None,
        root: Path,
        rng: random.Random,
    ) -> None:
        """``hosts`` are members, each by name, with a port or as a URL. ``authorities`` is the PEM file that verifies
        their certificates; without it any certificate is accepted.
        """
        self._cluster = cluster
        self._joining = joining
        self._hosts = tuple(hosts)
        self._credentials = credentials
        self._authorities = authorities
        self._mark = root / MARK_NAME
        self._rng = rng
        self._reported: dict[str, str] = {}

    async def run(self) -> None:
        watch = self._cluster.watch
        if self._mark.exists() or watch.renamed_from is not None:
            return
        requests = list(self._requests())
        if self._authorities is None and requests:
            log.warning("joining without 'replication.joinCa': the certificate of the first member is not verified")
        delay_s = DELAY_S_MIN
        while not self._is_settled() and not await self._ask_all(requests):
            with trio.move_on_after(delay_s * self._rng.uniform(0.5, 1.5)):
                while not self._is_settled():
                    await watch.wait_for_change()
            delay_s = min(delay_s * 2, DELAY_S_MAX)
        await trio.to_thread.run_sync(self._remember)

    def _is_settled(self) -> bool:
        """Whether this node knows members, by whatever way, or was removed from its cluster."""
        membership = self._cluster.watch.read_now()
        return bool(membership.peers) or membership.is_removed(self._cluster.name)

    def _requests(self) -> Iterator[AddNode]:
        """What ``add_node`` would be sent for each host; for this node itself nothing."""
        for host in self._hosts:
            body: dict[str, Any] = {
                "url" if "://" in host else "hostname": host,
                "verify_tls": self._authorities is not None,
            }
            if self._credentials.password is not None:
                body["authorization"] = {
                    "username": self._credentials.username,
                    "password": self._credentials.password,
                }
            try:
                request = add_node_params(body)
                self._joining.resolved(request)
            except InvalidParams as error:
                if str(error) != OWN_NAME:
                    log.error("'%s' of 'replication.join' is left out: %s", host, error)
            else:
                yield request

    async def _ask_all(self, requests: Sequence[AddNode]) -> bool:
        for request in requests:
            with self._cluster.join_order.asking() as may_ask:
                if not may_ask or self._is_settled():
                    return False
                if await self._ask(request):
                    return True
        return False

    async def _ask(self, request: AddNode) -> bool:
        try:
            authorities = None
            if self._authorities is not None:
                authorities = await trio.to_thread.run_sync(_read_authorities, self._authorities)
            await self._joining.add(request, needs_answer=True, authorities_pem=authorities)
        except (DatabaseError, Unusable, OSError) as error:
            is_news = self._reported.get(request.label) != str(error)
            self._reported[request.label] = str(error)
            log.log(logging.WARNING if is_news else logging.DEBUG, "joining by '%s' failed: %s", request.label, error)
            return False
        log.log(NOTIFY, "joined the cluster of '%s'", request.label)
        return True

    def _remember(self) -> None:
        try:
            replace_file(
                self._mark, "This node has joined a cluster, and does not do so again by itself.\n", mode=0o600
            )
        except OSError as error:
            log.error("%s cannot be written: %s", self._mark, error)


def _read_authorities(path: Path) -> str:
    data = read_bytes(path)
    if data is None:
        raise Unusable(f"{path} does not exist")
    parse_chain(data, path)
    return data.decode("ascii", "replace")
