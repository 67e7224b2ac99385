"""The operations on certificates: their literal answers, the rows, and the key files that come and go with them."""

import ssl
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from node.certificate_issuing import issue_authority, issue_for, issue_leaf, new_key
from node.certificate_source import CertificateSource
from node.certificates import ensure_certificates
from ops.context import Context, NodeCaller
from ops.errors import InvalidParams
from ops.http import Peer, Request
from ops.sections.certificates import SignCertificate, sign_certificate
from tests.ops.conftest import Node

NO_KEY = "A suitable private key was not found for this certificate"
WRONG_KEY = "The private key does not match the certificate"
NO_NAME = "Error extracting certificate host name, please provide a name parameter"
HOST = "db.example.org"
OWN_FILES = {"ca.pem", "caPrivateKey.pem", "certificate.pem", "privateKey.pem"}


@pytest.fixture
async def node(node: Node) -> Node:
    """The node as it is after its first start."""
    keys = node.services.settings.keys_path
    ensure_certificates(keys, node="n1")
    await CertificateSource(node.services.catalog, keys=keys, node="n1").load_files()
    return node


@pytest.fixture
def root() -> trustme.CA:
    return trustme.CA()


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def key_pem(key: Any, password: bytes | None = None) -> str:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        encryption = serialization.BestAvailableEncryption(password)
    data: bytes = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    return data.decode()


def issued(authority: trustme.CA, *hosts: str, **options: Any) -> dict[str, Any]:
    """Fields of a request to add a certificate of ``authority``, with its key."""
    leaf = authority.issue_cert(*hosts, **options)
    chain = "".join(blob.bytes().decode() for blob in leaf.cert_chain_pems)
    return {"certificate": chain, "private_key": leaf.private_key_pem.bytes().decode()}


async def add(node: Node, is_authority: bool = False, **fields: Any) -> tuple[int, Any]:
    return await node.post({"operation": "add_certificate", "is_authority": is_authority, **fields})


async def added(node: Node, name: str) -> dict[str, Any]:
    """The row of this name, as clients see it."""
    rows = await node.ok(operation="list_certificates")
    return next(row for row in rows if row["name"] == name)


async def names(node: Node) -> list[str]:
    return [row["name"] for row in await node.ok(operation="list_certificates")]


def keys_of(node: Node) -> set[str]:
    """Key files that do not belong to the node itself."""
    return {path.name for path in node.services.settings.keys_path.iterdir()} - OWN_FILES


# -- adding, listing, removing ----------------------------------------------------------------------------------------


async def test_a_certificate_is_added_listed_and_removed_with_its_key(node: Node, root: trustme.CA) -> None:
    fields = issued(root, HOST)
    answer = await node.ok(
        operation="add_certificate",
        name="my-cert",
        is_authority=False,
        uses=["https"],
        hosts=[HOST],
        ciphers="ECDHE+AESGCM",
        **fields,
    )
    assert answer == {"message": "Successfully added certificate: my-cert"}
    row = await added(node, "my-cert")
    times = row.pop("__createdtime__"), row.pop("__updatedtime__")
    details = row.pop("details")
    assert row == {
        "name": "my-cert",
        "certificate": fields["certificate"],
        "is_authority": False,
        "is_self_signed": False,
        "private_key_name": "my-cert.pem",
        "uses": ["https"],
        "hosts": [HOST],
        "ciphers": "ECDHE+AESGCM",
    }
    assert times[0] == times[1] > 0
    assert details["subject_alt_name"] == f"DNS:{HOST}"
    path = node.services.settings.keys_path / "my-cert.pem"
    assert path.stat().st_mode & 0o777 == 0o600
    assert await node.ok(operation="remove_certificate", name="my-cert") == {"message": "Successfully removed my-cert"}
    assert "my-cert" not in await names(node)
    assert not path.exists()


async def test_no_key_is_shown_anywhere(node: Node, root: trustme.CA, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    fields = issued(root, HOST)
    await add(node, name="my-cert", **fields)
    listed = str(await node.ok(operation="list_certificates"))
    for secret in ("PRIVATE", fields["private_key"].splitlines()[1]):
        assert secret not in listed
        assert secret not in caplog.text


async def test_a_node_lists_its_own_certificates(node: Node) -> None:
    assert await names(node) == ["logmesh-Certificate-Authority-n1", "n1"]


@pytest.mark.parametrize(
    ("name", "told", "file"),
    [("a b/c", "a-b-c", "a-b-c.pem"), ("../../x", "..-..-x", "..-..-x.pem"), (".", ".", "..pem")],
)
async def test_a_name_is_harmless_in_a_path(node: Node, root: trustme.CA, name: str, told: str, file: str) -> None:
    _, answer = await add(node, name=name, **issued(root, HOST))
    assert answer == {"message": f"Successfully added certificate: {told}"}
    assert (await added(node, name))["private_key_name"] == file
    assert keys_of(node) == {file}


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"common_name": "cn.example.org"}, "cn.example.org"),
        ({}, HOST),
    ],
    ids=["its common name", "else its first host"],
)
async def test_a_certificate_without_a_name_is_called_like(
    node: Node, root: trustme.CA, fields: dict[str, str], name: str
) -> None:
    _, answer = await add(node, **issued(root, HOST, "other.example.org", **fields))
    assert answer == {"message": f"Successfully added certificate: {name}"}
    assert name in await names(node)


async def test_one_that_names_no_host_needs_a_name(node: Node, root: trustme.CA) -> None:
    authority = root.cert_pem.bytes().decode()
    assert await add(node, True, certificate=authority) == (400, {"error": NO_NAME})
    assert await add(node, True, certificate=authority, name="root") == (
        200,
        {"message": "Successfully added certificate: root"},
    )
    assert "private_key_name" not in await added(node, "root")


async def test_a_second_one_of_the_same_name_replaces_the_first_and_keeps_what_it_does_not_say(
    node: Node, root: trustme.CA
) -> None:
    await add(node, name="mine", uses=["replication"], hosts=["a.example.org"], **issued(root, HOST))
    first = await added(node, "mine")
    await add(node, name="mine", hosts=["b.example.org"], **issued(root, HOST))
    second = await added(node, "mine")
    assert (second["uses"], second["hosts"]) == (["replication"], ["b.example.org"])
    assert second["certificate"] != first["certificate"]
    assert second["__createdtime__"] == first["__createdtime__"]
    assert keys_of(node) == {second["private_key_name"]}


async def test_an_authority_in_the_place_of_a_certificate_has_no_key(node: Node, root: trustme.CA) -> None:
    await add(node, name="mine", **issued(root, HOST))
    await add(node, True, name="mine", certificate=root.cert_pem.bytes().decode())
    assert "private_key_name" not in await added(node, "mine")
    assert keys_of(node) == set()


async def test_a_key_that_is_there_is_used_and_kept_while_another_certificate_has_it(
    node: Node, root: trustme.CA
) -> None:
    fields = issued(root, HOST)
    await add(node, name="first", **fields)
    await add(node, name="second", **fields)
    await add(node, name="third", certificate=fields["certificate"])
    assert {(await added(node, name))["private_key_name"] for name in ("first", "second", "third")} == {"first.pem"}
    for name, left in (("first", {"first.pem"}), ("third", {"first.pem"}), ("second", set())):
        await node.ok(operation="remove_certificate", name=name)
        assert keys_of(node) == left


async def test_a_name_of_a_file_that_is_there_overwrites_nothing(node: Node, root: trustme.CA) -> None:
    keys = node.services.settings.keys_path
    before = {name: (keys / name).read_bytes() for name in OWN_FILES}
    await add(node, name="privateKey", **issued(root, HOST))
    await add(node, name="a b", **issued(root, HOST))
    await add(node, name="a/b", **issued(root, HOST))
    assert {name: (keys / name).read_bytes() for name in OWN_FILES} == before
    assert keys_of(node) == {"privateKey-2.pem", "a-b.pem", "a-b-2.pem"}


async def test_a_certificate_for_the_nodes_own_key_does_not_take_the_key_along(node: Node) -> None:
    request = await node.ok(operation="create_csr")
    signed = await node.ok(operation="sign_certificate", csr=request["pem"])
    await add(node, name="mine", certificate=signed["certificate"])
    assert (await added(node, "mine"))["private_key_name"] == "privateKey.pem"
    await node.ok(operation="remove_certificate", name="mine")
    assert (node.services.settings.keys_path / "privateKey.pem").exists()


@pytest.mark.parametrize(
    "key", [rsa.generate_private_key(public_exponent=65537, key_size=2048), ec.generate_private_key(ec.SECP521R1())]
)
async def test_keys_of_other_types_are_taken(node: Node, key: Any) -> None:
    authority_key, now = new_key(), datetime.now(UTC)
    authority = issue_authority(authority_key, node="root", now=now)
    leaf = issue_leaf(key.public_key(), node=HOST, hosts=(), authority=authority, authority_key=authority_key, now=now)
    assert (await add(node, certificate=pem(leaf), private_key=key_pem(key)))[0] == 200
    assert (await added(node, HOST))["private_key_name"] == f"{HOST}.pem"


async def test_an_expired_certificate_is_taken(node: Node) -> None:
    authority_key, key, then = new_key(), new_key(), datetime.now(UTC) - timedelta(days=9000)
    authority = issue_authority(authority_key, node="root", now=then)
    leaf = issue_leaf(key.public_key(), node=HOST, hosts=(), authority=authority, authority_key=authority_key, now=then)
    assert (await add(node, certificate=pem(leaf), private_key=key_pem(key)))[0] == 200


async def test_with_replicated_the_answer_says_who_else_has_it(node: Node, root: trustme.CA) -> None:
    _, answer = await add(node, name="mine", replicated=True, **issued(root, HOST))
    assert answer == {"message": "Successfully added certificate: mine", "replicated": []}
    answer = await node.ok(operation="remove_certificate", name="mine", replicated=True)
    assert answer == {"message": "Successfully removed mine", "replicated": []}


async def test_the_nodes_own_authority_may_be_removed(node: Node) -> None:
    await node.ok(operation="remove_certificate", name="logmesh-Certificate-Authority-n1")
    assert await names(node) == ["n1"]
    assert {path.name for path in node.services.settings.keys_path.iterdir()} == OWN_FILES


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({}, "'certificate' is required. 'is_authority' is required"),
        ({"certificate": 5, "is_authority": True}, "'certificate' must be a string"),
        ({"certificate": "x"}, "'is_authority' is required"),
        ({"certificate": "x", "is_authority": "yes"}, "'is_authority' must be a boolean"),
        ({"certificate": "x", "is_authority": True, "name": 5}, "'name' must be a string"),
        ({"certificate": "x", "is_authority": True, "private_key": {}}, "'private_key' must be a string"),
        ({"certificate": "x", "is_authority": True, "hosts": "a"}, "'hosts' must be an array"),
        ({"certificate": "x", "is_authority": True, "uses": [5]}, "'uses[0]' must be a string"),
        ({"certificate": "x", "is_authority": True, "ciphers": 1}, "'ciphers' must be a string"),
        ({"certificate": "x", "is_authority": True, "replicated": 1}, "'replicated' must be a boolean"),
    ],
)
async def test_fields_of_a_wrong_type_are_refused(node: Node, body: dict[str, Any], problem: str) -> None:
    assert await node.post({"operation": "add_certificate", **body}) == (400, {"error": problem})


@pytest.mark.parametrize(
    "certificate",
    [
        "nothing",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "x" * (2 << 20),
        key_pem(new_key()),
    ],
    ids=["text", "torn", "large", "a key"],
)
async def test_what_is_no_certificate_is_refused(node: Node, certificate: str) -> None:
    status, answer = await add(node, name="mine", certificate=certificate)
    assert status == 400
    assert answer["error"].startswith("Invalid certificate format for mine")


@pytest.mark.parametrize(
    "key",
    [key_pem(new_key()), key_pem(new_key(), b"word"), "nothing", "x" * (2 << 20)],
    ids=["another", "encrypted", "none", "large"],
)
@pytest.mark.parametrize("is_authority", [False, True])
async def test_a_key_that_does_not_fit_is_refused(node: Node, root: trustme.CA, key: str, is_authority: bool) -> None:
    certificate = issued(root, HOST)["certificate"]
    before = await names(node)
    assert await add(node, is_authority, certificate=certificate, private_key=key) == (400, {"error": WRONG_KEY})
    assert await names(node) == before
    assert keys_of(node) == set()


async def test_a_certificate_whose_key_nobody_has_is_refused(node: Node, root: trustme.CA) -> None:
    assert await add(node, certificate=issued(root, HOST)["certificate"]) == (400, {"error": NO_KEY})


async def test_ciphers_that_do_not_exist_are_refused(node: Node, root: trustme.CA) -> None:
    status, answer = await add(node, ciphers="NO-SUCH", **issued(root, HOST))
    assert (status, answer) == (400, {"error": "'ciphers' names no cipher that is known here"})
    assert keys_of(node) == set()


async def test_a_certificate_that_is_not_there_cannot_be_removed(node: Node) -> None:
    for name in ("none", "x" * 5000):
        assert await node.post({"operation": "remove_certificate", "name": name}) == (
            400,
            {"error": f"{name} not found"},
        )
    assert await node.post({"operation": "remove_certificate"}) == (400, {"error": "'name' is required"})


# -- signing ----------------------------------------------------------------------------------------------------------


async def test_a_request_of_the_node_is_signed_by_its_authority(node: Node, tmp_path: Path) -> None:
    request = await node.ok(operation="create_csr")
    assert request["privateKeyName"] == "privateKey.pem"
    signed = await node.ok(operation="sign_certificate", csr=request["pem"])
    assert set(signed) == {"signingCA", "certificate"}
    assert signed["signingCA"] == (tmp_path / "keys" / "ca.pem").read_text()
    leaf = x509.load_pem_x509_certificate(signed["certificate"].encode())
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(signed["signingCA"].encode()))
    assert ssl.PEM_cert_to_DER_cert(signed["certificate"])


@pytest.mark.parametrize(
    ("caller", "is_given"),
    [
        (None, True),
        (NodeCaller(name="n2", is_member=False), True),
        (NodeCaller(name="n2", is_member=True), False),
    ],
    ids=["client", "node that joins with credentials", "member"],
)
async def test_a_member_does_not_get_the_name_of_another_one(
    node: Node, caller: NodeCaller | None, is_given: bool
) -> None:
    request = await node.ok(operation="create_csr")
    context = Context(
        services=node.services,
        user=None,
        request=Request(method="POST", target="/", headers={}, body=b"", peer=Peer(address="127.0.0.1")),
        body={},
        operation="sign_certificate",
        caller=caller,
    )
    refusal = nullcontext() if is_given else pytest.raises(InvalidParams, match="'n1' is the name of another member")
    with refusal:
        await sign_certificate.handler(context, SignCertificate(csr=request["pem"]))


async def test_without_a_request_nothing_is_signed(node: Node) -> None:
    assert await node.ok(operation="sign_certificate") == {}


@pytest.mark.parametrize("csr", ["nothing", "-----BEGIN CERTIFICATE REQUEST-----"])
async def test_a_bad_request_is_refused(node: Node, csr: str) -> None:
    status, answer = await node.post({"operation": "sign_certificate", "csr": csr})
    assert status == 400
    assert answer["error"].startswith("Error verifying CSR: ")


async def test_a_certificate_of_an_odd_subject_is_listed_in_one_line(node: Node) -> None:
    key, authority_key, now = new_key(), new_key(), datetime.now(UTC)
    subject = x509.Name(
        [x509.NameAttribute(NameOID.COUNTRY_NAME, "NL"), x509.NameAttribute(NameOID.COMMON_NAME, "db\nexample")]
    )
    leaf = issue_for(
        key.public_key(),
        subject=subject,
        names=[x509.DNSName(HOST)],
        authority=issue_authority(authority_key, node="root", now=now),
        authority_key=authority_key,
        now=now,
    )
    assert (await add(node, name="odd", certificate=pem(leaf), private_key=key_pem(key)))[0] == 200
    assert (await added(node, "odd"))["details"]["subject"] == "C=NL CN=db\nexample"
