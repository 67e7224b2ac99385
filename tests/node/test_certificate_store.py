"""What the join does with certificates: asking for a signature, giving one, accepting one. Adding and removing is
tested with the operations.
"""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio
import trustme
from cryptography import x509

from node.certificate_files import pem_of
from node.certificate_issuing import AUTHORITY_PREFIX, issue_authority, issue_leaf, new_key
from node.certificates import AUTHORITY, AUTHORITY_KEY, CERTIFICATE, KEY, read_certificates
from ops.errors import InvalidParams, OperationError
from tests.node.certificate_nodes import CertificateNode, chain_of, key_of, open_certificate_node, pem_of_key

REPLICATION = "n2-replication"


@pytest.fixture
async def n1(tmp_path: Path) -> AsyncIterator[CertificateNode]:
    async with open_certificate_node(tmp_path / "n1", "n1") as node:
        yield node


@pytest.fixture
async def n2(tmp_path: Path) -> AsyncIterator[CertificateNode]:
    async with open_certificate_node(tmp_path / "n2", "n2", url_host="db.example.org") as node:
        yield node


def own_authority_name(node: CertificateNode) -> str:
    return AUTHORITY_PREFIX + node.name


async def test_a_new_node_needs_a_signature_until_another_one_gave_it(n1: CertificateNode, n2: CertificateNode) -> None:
    assert await n2.store.needs_signature()
    await n2.sign_with(n1)
    assert not await n2.store.needs_signature()
    assert await n1.store.needs_signature()


async def test_a_request_asks_for_the_names_of_the_node_with_its_own_key(n2: CertificateNode) -> None:
    request = await n2.store.create_csr()
    asked = x509.load_pem_x509_csr(request.pem.encode())
    names = asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {str(name.value) for name in names} == {"127.0.0.1", "localhost", "::1", "n2", "db.example.org"}
    assert asked.subject.rfc4514_string() == "CN=n2"
    assert request.private_key_name == KEY
    assert asked.public_key() == n2.own.public_key()


async def test_a_signature_is_a_row_for_replication_and_its_authority_is_trusted(
    tmp_path: Path, n1: CertificateNode
) -> None:
    async with open_certificate_node(tmp_path / "n2", "n2") as n2:
        await n2.sign_with(n1)
        row = n2.row(REPLICATION)
        assert (row["uses"], row["private_key_name"], row["is_self_signed"]) == (["replication"], KEY, False)
        authority = n2.row(own_authority_name(n1))
        assert (authority["is_authority"], authority["is_self_signed"]) == (True, False)
        assert authority["certificate"] == n1.own_authority_pem
        assert await n2.store.authority_pem() == n1.own_authority_pem


async def test_a_second_signature_replaces_the_first(tmp_path: Path, n1: CertificateNode) -> None:
    async with open_certificate_node(tmp_path / "n2", "n2") as n2:
        await n2.sign_with(n1)
        first = n2.row(REPLICATION)["details"]["serial_number"]
        names = n2.names()
        await n2.sign_with(n1)
        assert n2.row(REPLICATION)["details"]["serial_number"] != first
        assert n2.names() == names


async def test_after_a_change_of_its_name_a_node_needs_a_new_signature(tmp_path: Path, n1: CertificateNode) -> None:
    async with open_certificate_node(tmp_path / "n2", "n2") as node:
        await node.sign_with(n1)
    async with open_certificate_node(tmp_path / "n2", "n3") as node:
        assert await node.store.needs_signature()
        await node.sign_with(n1)
        assert not await node.store.needs_signature()


async def test_an_operators_certificate_with_the_nodes_name_needs_no_signature(n1: CertificateNode) -> None:
    root = trustme.CA()
    issued = root.issue_cert("n1")
    await n1.trust(root.cert_pem.bytes().decode(), "root")
    await n1.add(chain_of(issued), private_key=key_of(issued), name="mine")
    assert not await n1.store.needs_signature()
    assert await n1.store.authority_pem() == root.cert_pem.bytes().decode()


async def test_an_operators_certificate_for_other_hosts_does_not_spare_the_signature(n1: CertificateNode) -> None:
    issued = trustme.CA().issue_cert("www.example.org")
    await n1.add(chain_of(issued), private_key=key_of(issued), name="mine")
    assert await n1.store.needs_signature()


async def test_without_a_signature_peers_have_to_trust_the_nodes_own_authority(n1: CertificateNode) -> None:
    assert await n1.store.authority_pem() == n1.own_authority_pem


async def test_an_authority_of_an_operator_signs_before_the_generated_one(
    n1: CertificateNode, n2: CertificateNode
) -> None:
    root = trustme.CA()
    await n1.add(
        root.cert_pem.bytes().decode(),
        is_authority=True,
        name="root",
        private_key=root.private_key_pem.bytes().decode(),
    )
    request = await n2.store.create_csr()
    signed = await n1.store.sign(request.pem)
    assert signed.authority_pem == root.cert_pem.bytes().decode()
    await n2.store.accept_signed(signed.certificate_pem, signed.authority_pem)
    assert not await n2.store.needs_signature()


async def test_an_authority_without_its_key_signs_nothing(n1: CertificateNode, n2: CertificateNode) -> None:
    await n1.trust(trustme.CA().cert_pem.bytes().decode(), "root")
    request = await n2.store.create_csr()
    assert (await n1.store.sign(request.pem)).authority_pem == n1.own_authority_pem
    (n1.keys / AUTHORITY_KEY).unlink()
    with pytest.raises(OperationError, match="no certificate authority with a private key") as failed:
        await n1.store.sign(request.pem)
    assert failed.value.status == 500


async def test_the_signer_gives_neither_its_own_name_nor_those_of_others(n1: CertificateNode) -> None:
    for name in ("n1", "n3"):
        async with open_certificate_node(n1.keys.parent.parent / f"other {name}", name) as other:
            request = await other.store.create_csr()
        with pytest.raises(InvalidParams, match=f"'{name}' is the name of another member"):
            await n1.store.sign(request.pem, for_node=name, others=("n3",))
        await n1.store.sign(request.pem, for_node=name, others=("n3",), may_take_over=True)


async def test_an_answer_that_is_not_to_the_request_of_this_node_changes_nothing(
    n1: CertificateNode, n2: CertificateNode
) -> None:
    async with open_certificate_node(n1.keys.parent.parent / "n3", "n3") as n3:
        of_n3 = await n1.store.sign((await n3.store.create_csr()).pem)
    good = await n1.store.sign((await n2.store.create_csr()).pem)
    key = new_key()
    authority = issue_authority(key, node="n9", now=datetime.now(UTC))
    public_key = n2.own.public_key()
    for_another = issue_leaf(
        public_key,  # type: ignore[arg-type]
        node="n9",
        hosts=(),
        authority=authority,
        authority_key=key,
        now=datetime.now(UTC),
    )
    before = n2.store.rows()
    for certificate, authority_pem, reason in (
        (of_n3.certificate_pem, of_n3.authority_pem, "another key"),
        (pem_of(for_another), pem_of(authority), "does not name 'n2'"),
        (good.certificate_pem, pem_of(authority), "does not come from the authority"),
        (good.certificate_pem, good.certificate_pem, "does not come from the authority"),
        ("", good.authority_pem, "cannot be read"),
        (good.certificate_pem, "nothing", "cannot be read"),
        (good.certificate_pem, "x" * (2 << 20), "cannot be read"),
    ):
        with pytest.raises(InvalidParams, match=reason):
            await n2.store.accept_signed(certificate, authority_pem)
    assert n2.store.rows() == before


async def test_a_foreign_authority_with_the_name_of_the_nodes_own_does_not_replace_it(
    n1: CertificateNode, n2: CertificateNode
) -> None:
    key = new_key()
    impostor = issue_authority(key, node="n2", now=datetime.now(UTC))
    await n1.add(pem_of(impostor), is_authority=True, name="impostor", private_key=pem_of_key(key))
    await n2.sign_with(n1)
    assert n2.row(own_authority_name(n2))["certificate"] == n2.own_authority_pem
    assert pem_of(impostor) in [row["certificate"] for row in n2.store.rows()]


async def test_without_a_key_there_is_no_request(n1: CertificateNode) -> None:
    (n1.keys / KEY).unlink()
    with pytest.raises(OperationError, match="no private key"):
        await n1.store.create_csr()


async def test_changes_at_the_same_time_do_not_take_each_others_keys(n1: CertificateNode) -> None:
    root = trustme.CA()
    issued = root.issue_cert("db.example.org")

    async def add_and_remove(name: str) -> None:
        await n1.add(chain_of(issued), private_key=key_of(issued), name=name)
        await n1.store.remove(name, user=None)

    await n1.add(chain_of(issued), private_key=key_of(issued), name="stays")
    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(add_and_remove, f"a{number}")
    files = {path.name for path in n1.keys.glob("*.pem")}
    assert files == {KEY, AUTHORITY, AUTHORITY_KEY, CERTIFICATE, n1.row("stays")["private_key_name"]}
    assert read_certificates(n1.keys).chain[0] == n1.own
    assert len(n1.source.pairs()) == 2
