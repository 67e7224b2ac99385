"""Who gets in: by certificate, by credentials, by address on the plain port. Who is refused hears why."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from trio.testing import MockClock

from replication.admission import Admission
from replication.connection import PeerIdentity
from replication.errors import PeerRefused
from replication.listener import Incoming
from tests.replication.peers import AUTHORITY, parsed
from tests.replication.watched import Watched, watched

ADDRESS = "192.0.2.7"
RIGHT = "Basic cm9vdDpyaWdodA=="


def certificate(*names: str, common_name: str | None = None) -> x509.Certificate:
    return parsed(AUTHORITY.issue_cert(*names, common_name=common_name))


B = certificate("b", common_name="b")


async def is_super_user(authorization: str) -> bool:
    return authorization == RIGHT


class Door(Watched):
    """The door of a node whose members change."""

    async def admit(self, **shown: Any) -> PeerIdentity:
        fields: dict[str, Any] = {"certificate": None, "address": ADDRESS, "authorization": None, "is_secure": True}
        return await Admission(self.watch, is_super_user)(Incoming(**{**fields, **shown}))

    async def refusal(self, **shown: Any) -> str:
        with pytest.raises(PeerRefused) as refused:
            await self.admit(**shown)
        return str(refused.value)


@asynccontextmanager
async def door(folder: Path, *routes: Any) -> AsyncIterator[Door]:
    """Of a node with the member ``b``."""
    async with watched(folder, *routes) as node:
        if "b" not in node.watch.membership.peers:
            await node.add("b")
        yield Door(node.catalog, node.watch)


# -- certificates -----------------------------------------------------------------------------------------------------


async def test_a_certificate_of_a_member_proves_its_name(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with door(tmp_path) as node:
        identity = await node.admit(certificate=B)
        assert (identity.name, identity.address, identity.serial) == ("b", ADDRESS, B.serial_number)
        assert identity.not_after_s == B.not_valid_after_utc.timestamp()
        assert not identity.is_super_user


async def test_the_case_of_a_name_does_not_count_and_the_members_spelling_does(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with door(tmp_path) as node:
        assert (await node.admit(certificate=certificate(common_name="B"))).name == "b"


async def test_an_alternative_name_proves_as_much_as_a_common_name(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with door(tmp_path) as node:
        assert (await node.admit(certificate=certificate("b", common_name="somebody"))).name == "b"


async def test_a_configured_route_is_a_name_too(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with door(tmp_path, "c") as node:
        assert (await node.admit(certificate=certificate("c"))).name == "c"


@pytest.mark.parametrize("name", ["stranger", "b.example", "bb", "*.b", "a"])
async def test_a_certificate_of_another_name_is_refused(name: str, tmp_path: Path, autojump_clock: MockClock) -> None:
    async with door(tmp_path) as node:
        await node.refusal(certificate=certificate(name))


async def test_the_refusal_of_an_unknown_name_says_what_to_do(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with door(tmp_path) as node:
        assert await node.refusal(certificate=certificate("stranger")) == (
            "no hdb_nodes entry for stranger; run add_node from this node specifying the peer URL to register it"
        )


async def test_a_wildcard_identifies_nobody(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with door(tmp_path) as node:
        await node.add("*.example")
        assert await node.refusal(certificate=certificate("*.example")) == "the certificate names nobody"


async def test_a_removed_node_is_refused_and_let_in_again_once_it_is_added(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with door(tmp_path) as node:
        await node.remove("b")
        assert "no hdb_nodes entry for b" in await node.refusal(certificate=B)
        await node.add("b")
        assert (await node.admit(certificate=B)).name == "b"


async def test_a_route_does_not_let_a_removed_node_in(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with door(tmp_path, "b") as node:
        await node.remove("b")
        assert "no hdb_nodes entry for b" in await node.refusal(certificate=B)


async def test_a_revoked_certificate_is_refused_and_another_of_the_same_node_is_not(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with door(tmp_path) as node:
        await node.revoke("b", B.serial_number)
        assert await node.refusal(certificate=B) == f"certificate {B.serial_number:X} of b is revoked"
        assert (await node.admit(certificate=certificate("b"))).name == "b"


@pytest.mark.parametrize("form", ["{:x}", "{:X}", "00{:x}"])
async def test_a_serial_number_in_the_row_of_its_node_is_revoked(
    form: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with door(tmp_path) as node:
        serials = [form.format(B.serial_number)]
        await node.put(
            "hdb_nodes",
            {"name": "b", "url": "wss://b:1", "replicates": True, "epoch": 1, "revoked_certificates": serials},
        )
        await node.until(lambda: bool(node.watch.membership.peers["b"].revoked))
        assert "is revoked" in await node.refusal(certificate=B)


async def test_a_serial_number_in_a_route_is_revoked(tmp_path: Path, autojump_clock: MockClock) -> None:
    serial = f"{B.serial_number:x}"
    async with door(tmp_path, {"hostname": "b", "revokedCertificates": [serial]}) as node:
        assert "is revoked" in await node.refusal(certificate=B)


async def test_the_credentials_of_a_super_user_do_not_make_up_for_a_revoked_certificate(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with door(tmp_path) as node:
        await node.revoke("b", B.serial_number)
        assert "is revoked" in await node.refusal(certificate=B, authorization=RIGHT)


# -- credentials ------------------------------------------------------------------------------------------------------


async def test_a_join_needs_the_credentials_of_a_super_user_and_proves_no_name(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with door(tmp_path) as node:
        identity = await node.admit(authorization=RIGHT)
        assert (identity.name, identity.is_super_user, identity.serial) == (None, True, None)


async def test_wrong_credentials_are_refused(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with door(tmp_path) as node:
        assert await node.refusal(authorization="Basic wrong") == "Login failed"


async def test_without_certificate_and_credentials_nobody_gets_in(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with door(tmp_path) as node:
        assert await node.refusal() == "no certificate and no credentials"


async def test_a_node_that_is_no_member_yet_joins_with_credentials_beside_its_certificate(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with door(tmp_path) as node:
        identity = await node.admit(certificate=certificate("new"), authorization=RIGHT)
        assert (identity.name, identity.is_super_user) == (None, True)


async def test_a_member_is_known_by_its_certificate_whatever_credentials_it_sends(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with door(tmp_path) as node:
        for authorization in (RIGHT, "Basic wrong"):
            identity = await node.admit(certificate=B, authorization=authorization)
            assert (identity.name, identity.is_super_user) == ("b", False)


# -- the plain port ---------------------------------------------------------------------------------------------------


async def test_on_the_plain_port_the_address_is_the_name(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with door(tmp_path) as node:
        await node.add("127.0.0.2", url="ws://127.0.0.2:9925")
        identity = await node.admit(address="127.0.0.2", is_secure=False)
        assert (identity.name, identity.is_super_user) == ("127.0.0.2", False)


@pytest.mark.parametrize("address", ["127.0.0.3", "127.0.0.22", "::ffff:127.0.0.2"])
async def test_another_address_is_refused_on_the_plain_port(
    address: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with door(tmp_path) as node:
        await node.add("127.0.0.2", url="ws://127.0.0.2:9925")
        assert f"no hdb_nodes entry for {address}" in await node.refusal(address=address, is_secure=False)


async def test_the_secure_port_never_goes_by_the_address(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with door(tmp_path) as node:
        await node.add("127.0.0.2", url="ws://127.0.0.2:9925")
        await node.refusal(address="127.0.0.2")
        await node.refusal(address="127.0.0.2", certificate=certificate("stranger"))
