"""Mutual TLS between nodes in real handshakes: who is let in, what is shown, and what changes take effect."""

import gc
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio
import trustme

from node.certificate_files import pem_of
from node.certificate_issuing import issue_authority, issue_leaf, new_key
from node.errors import StartError
from node.replication_tls import ReplicationTls
from tests.node.certificate_nodes import CertificateNode, chain_of, key_of, open_certificate_node, pem_of_key
from tests.node.tls_peers import Met, meet

HANDSHAKES = 300


@pytest.fixture
async def n1(tmp_path: Path) -> AsyncIterator[CertificateNode]:
    async with open_certificate_node(tmp_path / "n1", "n1") as node:
        yield node


@pytest.fixture
async def n2(tmp_path: Path) -> AsyncIterator[CertificateNode]:
    async with open_certificate_node(tmp_path / "n2", "n2") as node:
        yield node


def dial(dialler: CertificateNode, server: CertificateNode) -> Met:
    return meet(server.tls().server_context(), dialler.tls().client_context(), host=server.name)


async def test_a_joined_node_and_the_signer_accept_each_other_in_both_directions(
    n1: CertificateNode, n2: CertificateNode
) -> None:
    await n2.sign_with(n1)
    there, back = dial(n2, n1), dial(n1, n2)
    assert (there.seen_by_client, back.seen_by_server) == (n1.own, n1.own)
    assert there.seen_by_server == back.seen_by_client != n2.own
    assert there.version == "TLSv1.3"


async def test_a_client_without_a_certificate_gets_through_the_handshake(n1: CertificateNode) -> None:
    client = n1.tls().client_context(shows_certificate=False)
    assert meet(n1.tls().server_context(), client).seen_by_server is None


async def test_a_client_whose_authority_is_unknown_does_not(n1: CertificateNode, n2: CertificateNode) -> None:
    with pytest.raises(ssl.SSLError, match="verify failed"):
        meet(n1.tls().server_context(), n2.tls().client_context(verify=False))


async def test_a_server_whose_authority_is_unknown_is_refused_unless_nothing_is_verified(
    n1: CertificateNode, n2: CertificateNode
) -> None:
    tls = n2.tls()
    with pytest.raises(ssl.SSLCertVerificationError):
        meet(n1.tls().server_context(), tls.client_context(shows_certificate=False))
    joining = tls.client_context(verify=False, shows_certificate=False)
    assert meet(n1.tls().server_context(), joining).seen_by_client == n1.own


async def test_with_named_authorities_a_client_trusts_these_alone(n1: CertificateNode, n2: CertificateNode) -> None:
    tls = n2.tls()
    joining = tls.client_context(authorities_pem=n1.own_authority_pem, shows_certificate=False)
    assert meet(n1.tls().server_context(), joining).seen_by_client == n1.own
    with pytest.raises(ssl.SSLCertVerificationError):
        meet(n2.tls().server_context(), joining)
    shown = meet(n1.tls().server_context(), n1.tls().client_context(authorities_pem=n1.own_authority_pem))
    assert shown.seen_by_server == n1.own
    with pytest.raises(ssl.SSLError):
        tls.client_context(authorities_pem="no certificate")


async def test_the_name_in_the_certificate_is_left_to_who_opens_the_link(n1: CertificateNode) -> None:
    assert n1.tls().client_context().check_hostname is False
    assert meet(n1.tls().server_context(), n1.tls().client_context(), host="other").seen_by_client == n1.own


async def test_an_authority_in_the_row_of_a_peer_is_trusted(n1: CertificateNode, n2: CertificateNode) -> None:
    await n1.put_peer("n2", n2.own_authority_pem)
    await n2.put_peer("n1", n1.own_authority_pem)
    assert dial(n1, n2).seen_by_server == n1.own


async def test_rows_of_peers_with_something_else_in_place_of_an_authority_cost_nobody_else(
    n1: CertificateNode, n2: CertificateNode, caplog: pytest.LogCaptureFixture
) -> None:
    for number, ca in enumerate(("nothing", 5, None, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----")):
        await n1.put_peer(f"a{number}", ca)
    await n1.put_peer("n2", n2.own_authority_pem)
    client = n2.tls().client_context(verify=False)
    assert meet(n1.tls().server_context(), client).seen_by_server == n2.own
    assert "the row of node a0" in caplog.text


async def test_new_authorities_count_for_the_next_handshake_of_the_same_listener(
    n1: CertificateNode, n2: CertificateNode
) -> None:
    tls = n1.tls()
    listening, client = tls.server_context(), n2.tls().client_context(verify=False)
    await n1.put_peer("n2", n2.own_authority_pem)
    tls.reload_if_changed()
    assert meet(listening, client).seen_by_server == n2.own
    assert tls.server_context() is listening


async def test_a_removed_authority_is_no_longer_trusted_by_either_side(
    n1: CertificateNode, n2: CertificateNode
) -> None:
    await n1.trust(n2.own_authority_pem, "of n2")
    tls, of_n2 = n1.tls(), n2.tls()
    client = of_n2.client_context(verify=False)
    meet(tls.server_context(), client)
    await n1.store.remove("of n2", user=None)
    tls.reload_if_changed()
    with pytest.raises(ssl.SSLError, match="verify failed"):
        meet(tls.server_context(), client)
    with pytest.raises(ssl.SSLCertVerificationError):
        meet(of_n2.server_context(), tls.client_context(shows_certificate=False))


async def test_no_session_is_resumed_past_the_removal_of_its_authority(
    n1: CertificateNode, n2: CertificateNode
) -> None:
    await n1.trust(n2.own_authority_pem, "of n2")
    tls = n1.tls()
    client = n2.tls().client_context(verify=False)
    session = meet(tls.server_context(), client).session
    await n1.store.remove("of n2", user=None)
    tls.reload_if_changed()
    with pytest.raises(ssl.SSLError, match="verify failed"):
        meet(tls.server_context(), client, session=session)


async def test_connections_with_older_versions_of_tls_that_would_resume_are_refused(n1: CertificateNode) -> None:
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        meet(n1.tls().server_context(), client)


async def test_during_a_rotation_old_and_new_authority_are_both_trusted(n1: CertificateNode) -> None:
    old, new = trustme.CA(), trustme.CA()
    await n1.trust(old.cert_pem.bytes().decode(), "old")
    await n1.trust(new.cert_pem.bytes().decode(), "new")
    for authority in (old, new):
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
        authority.issue_cert("n2").configure_cert(client)
        assert meet(n1.tls().server_context(), client).seen_by_server is not None


async def test_authorities_of_one_name_are_told_apart_by_their_keys(n1: CertificateNode) -> None:
    now = datetime.now(UTC)
    keys = new_key(), new_key()
    authorities = [issue_authority(key, node="n2", now=now) for key in keys]
    await n1.trust("".join(map(pem_of, authorities)), "both")
    for key, authority in zip(keys, authorities, strict=True):
        leaf_key = new_key()
        leaf = issue_leaf(leaf_key.public_key(), node="n2", hosts=(), authority=authority, authority_key=key, now=now)
        async with open_certificate_node(n1.keys.parent.parent / str(leaf.serial_number), "n2") as n2:
            await n2.add(pem_of(leaf), private_key=pem_of_key(leaf_key), uses=["replication"])
            seen = meet(n1.tls().server_context(), n2.tls().client_context(verify=False)).seen_by_server
            assert seen == leaf


async def test_an_intermediate_that_was_added_is_trusted_without_its_root(n1: CertificateNode) -> None:
    between = trustme.CA().create_child_ca()
    await n1.trust(between.cert_pem.bytes().decode(), "between")
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    between.issue_cert("n2").configure_cert(client)
    assert meet(n1.tls().server_context(), client).seen_by_server is not None


async def test_a_certificate_for_replication_is_preferred_there_and_nowhere_else(n1: CertificateNode) -> None:
    issued = trustme.CA().issue_cert("n1", common_name="for peers")
    await n1.add(chain_of(issued), private_key=key_of(issued), uses=["replication"])
    client = n1.tls().client_context(verify=False, shows_certificate=False)
    assert meet(n1.tls().server_context(), client).seen_by_client.serial_number != n1.own.serial_number


async def test_an_operators_certificate_that_does_not_name_the_node_is_not_shown_to_peers(n1: CertificateNode) -> None:
    issued = trustme.CA().issue_cert("www.example.org")
    await n1.add(chain_of(issued), private_key=key_of(issued))
    assert meet(n1.tls().server_context(), n1.tls().client_context()).seen_by_client == n1.own


async def test_an_expired_certificate_is_refused_by_either_side(n1: CertificateNode, n2: CertificateNode) -> None:
    await n2.sign_with(n1)
    authority_key, key, long_ago = new_key(), new_key(), datetime(2010, 3, 1, tzinfo=UTC)
    authority = issue_authority(authority_key, node="root", now=datetime.now(UTC))
    expired = issue_leaf(
        key.public_key(),
        node="n2",
        hosts=(),
        authority=issue_authority(authority_key, node="root", now=long_ago),
        authority_key=authority_key,
        now=long_ago,
    )
    await n1.trust(pem_of(authority), "root")
    with_it = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with_it.check_hostname, with_it.verify_mode = False, ssl.CERT_NONE
    chain, private = n2.keys / "expired.pem", n2.keys / "expired-key.pem"
    chain.write_text(pem_of(expired))
    private.write_text(pem_of_key(key))
    with_it.load_cert_chain(chain, private)
    with pytest.raises(ssl.SSLError, match="expired"):
        meet(n1.tls().server_context(), with_it)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(chain, private)
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        meet(server, n1.tls().client_context(), host="n2")


async def test_public_roots_are_trusted_where_that_is_enabled(n1: CertificateNode) -> None:
    def known(tls: ReplicationTls) -> int:
        return tls.client_context().cert_store_stats()["x509_ca"]

    only_own = known(n1.tls())
    public = ssl.create_default_context().cert_store_stats()["x509_ca"]
    assert only_own == 1
    assert known(n1.tls(trusts_public_roots=True)) == only_own + public


async def test_the_service_notices_new_certificates_within_two_seconds(n1: CertificateNode) -> None:
    tls = n1.tls()
    async with trio.open_nursery() as nursery:
        await nursery.start(tls.run)
        issued = trustme.CA().issue_cert("n1")
        await n1.add(chain_of(issued), private_key=key_of(issued), uses=["replication"], name="mine")
        with trio.fail_after(2):
            client = tls.client_context(verify=False, shows_certificate=False)
            while meet(tls.server_context(), client).seen_by_client == n1.own:
                await trio.sleep(0.02)
        nursery.cancel_scope.cancel()


async def test_without_any_certificate_there_are_no_contexts() -> None:
    with pytest.raises(StartError, match="replication"):
        ReplicationTls(list, list, node="n1")


async def test_handshakes_and_reloads_leave_no_contexts_behind(n1: CertificateNode) -> None:
    tls = n1.tls()

    def contexts_after(rounds: int) -> int:
        for _ in range(rounds):
            meet(tls.server_context(), tls.client_context())
        tls.reload()
        gc.collect()
        return sum(isinstance(thing, ssl.SSLContext) for thing in gc.get_objects())

    assert contexts_after(HANDSHAKES) <= contexts_after(1) + 1
