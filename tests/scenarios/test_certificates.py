"""The keys folder of a new node, its certificates as rows, and what a TLS client meets."""

import socket
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.node_process import NodeProcess
from tests.scenarios.asking import with_keys_of

HOSTNAME = "otter.example"
SERVED_S_MAX = 2.0


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    root = tmp_path_factory.mktemp("certificates") / "root"
    with NodeProcess(root, options=["--set", f"node.hostname={HOSTNAME}"]) as running:
        yield running
        assert running.stop() == 0


def read(root: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((root / "keys" / name).read_bytes())


def common_name(name: x509.Name) -> str:
    return str(name.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def rows(node: NodeProcess) -> dict[bool, Any]:
    """The rows of the two certificates by whether they are the authority's."""
    found = node.post(
        operation="search_by_value",
        database="system",
        table="hdb_certificate",
        attribute="name",
        value="*",
        get_attributes=["*"],
    )
    assert len(found) == 2
    return {row["is_authority"]: row for row in found}


def shown_to(node: NodeProcess, host: str | None) -> x509.Certificate:
    """The certificate that a client meets which asks for ``host``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    address = httpx.URL(node.url())
    with (
        socket.create_connection((address.host, address.port), timeout=10) as raw,
        context.wrap_socket(raw, server_hostname=host) as connection,
    ):
        shown = connection.getpeercert(binary_form=True)
        assert shown is not None
        return x509.load_der_x509_certificate(shown)


def is_shown_soon(node: NodeProcess, certificate: x509.Certificate, hosts: tuple[str | None, ...]) -> bool:
    deadline = time.monotonic() + SERVED_S_MAX
    while not all(shown_to(node, host) == certificate for host in hosts):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_keys_are_for_their_owner_only(node: NodeProcess) -> None:
    keys = node.root / "keys"
    assert keys.stat().st_mode & 0o777 == 0o700
    for name in ("privateKey.pem", "certificate.pem", "ca.pem", "caPrivateKey.pem"):
        assert (keys / name).stat().st_mode & 0o777 == 0o600, name
    assert (keys / "privateKey.pem").read_bytes() != (keys / "caPrivateKey.pem").read_bytes()


def test_the_authority_signs_certificates_for_ten_years(node: NodeProcess) -> None:
    authority = read(node.root, "ca.pem")
    assert common_name(authority.subject).endswith(f"-Certificate-Authority-{HOSTNAME}")
    constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca) == (True, True)
    usage = authority.extensions.get_extension_for_class(x509.KeyUsage)
    assert (usage.critical, usage.value.key_cert_sign, usage.value.crl_sign) == (True, True, True)
    authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    authority.verify_directly_issued_by(authority)
    assert authority.not_valid_after_utc > datetime.now(UTC) + timedelta(days=3640)


def test_the_certificate_names_the_node_and_this_machine(node: NodeProcess) -> None:
    certificate = read(node.root, "certificate.pem")
    certificate.verify_directly_issued_by(read(node.root, "ca.pem"))
    assert common_name(certificate.subject) == HOSTNAME
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {*names.get_values_for_type(x509.DNSName)} == {"localhost", HOSTNAME}
    assert {str(address) for address in names.get_values_for_type(x509.IPAddress)} == {"127.0.0.1", "::1"}
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.digital_signature, usage.key_encipherment, usage.key_cert_sign) == (True, True, False)
    purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(purposes) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    assert certificate.not_valid_after_utc <= read(node.root, "ca.pem").not_valid_after_utc


def test_the_rows_show_the_certificates_and_no_key(node: NodeProcess) -> None:
    shown = rows(node)
    authority, leaf = shown[True], shown[False]
    assert (leaf["name"], leaf["uses"], leaf["is_self_signed"]) == (HOSTNAME, ["https", "wss"], True)
    assert leaf["private_key_name"] == "privateKey.pem"
    assert (authority["uses"], authority["is_self_signed"]) == (["https"], True)
    details = leaf["details"]
    certificate = read(node.root, "certificate.pem")
    assert details["subject"] == f"CN={HOSTNAME}"
    assert details["issuer"] == f"CN={common_name(read(node.root, 'ca.pem').subject)}"
    assert details["serial_number"] == f"{certificate.serial_number:X}".zfill(len(details["serial_number"]))
    assert "DNS:localhost" in details["subject_alt_name"].split(", ")
    assert "IP Address:127.0.0.1" in details["subject_alt_name"].split(", ")
    ends = datetime.strptime(details["valid_to"], "%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC)
    assert ends == certificate.not_valid_after_utc
    for row in shown.values():
        assert "PRIVATE KEY" not in str(row)
        assert row["certificate"].startswith("-----BEGIN CERTIFICATE-----")


def test_an_added_certificate_is_served_at_once_by_its_names_and_a_removed_one_no_longer(node: NodeProcess) -> None:
    own = shown_to(node, HOSTNAME)
    names = []
    for host, asked in (("db.example.org", ("db.example.org", None)), ("*.example.net", ("any.example.net",))):
        issued = trustme.CA().issue_cert(host)
        chain = issued.cert_chain_pems[0].bytes().decode()
        key = issued.private_key_pem.bytes().decode()
        names.append(f"for {host}")
        node.post(operation="add_certificate", name=names[-1], certificate=chain, private_key=key, is_authority=False)
        assert is_shown_soon(node, x509.load_pem_x509_certificate(chain.encode()), asked)
    assert is_shown_soon(node, own, (HOSTNAME, "localhost"))
    files = {path.name for path in (node.root / "keys").glob("for-*")}
    assert files == {"for-db.example.org.pem", "for--.example.net.pem"}
    for name in names:
        node.post(operation="remove_certificate", name=name)
    assert is_shown_soon(node, own, ("db.example.org", "any.example.net", None))
    assert not list((node.root / "keys").glob("for-*"))


def test_an_added_certificate_is_still_served_after_a_new_start(node: NodeProcess) -> None:
    issued = trustme.CA().issue_cert("db.example.org")
    chain = issued.cert_chain_pems[0].bytes().decode()
    key = issued.private_key_pem.bytes().decode()
    node.post(operation="add_certificate", name="mine", certificate=chain, private_key=key, is_authority=False)
    node.stop()
    node.start()
    assert shown_to(node, None) == x509.load_pem_x509_certificate(chain.encode())
    node.post(operation="remove_certificate", name="mine")


def test_old_versions_of_tls_are_refused(node: NodeProcess) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(httpx.ConnectError), httpx.Client(verify=context, trust_env=False) as client:
        client.get(node.url() + "/health")


def test_a_start_keeps_certificates_a_new_name_makes_a_new_one_and_a_broken_file_stops_nothing(
    node: NodeProcess, tmp_path: Path
) -> None:
    root = with_keys_of(node, tmp_path / "root")
    with NodeProcess(root) as other:
        first = read(root, "certificate.pem").serial_number, read(root, "ca.pem").serial_number
        other.stop()
        other.start()
        assert (read(root, "certificate.pem").serial_number, read(root, "ca.pem").serial_number) == first
        other.stop()
    with NodeProcess(root, options=["--set", f"node.hostname={HOSTNAME}"]) as other:
        certificate = read(root, "certificate.pem")
        assert common_name(certificate.subject) == HOSTNAME
        certificate.verify_directly_issued_by(read(root, "ca.pem"))
        assert read(root, "ca.pem").serial_number == first[1]
        other.stop()
        (root / "keys" / "certificate.pem").write_text("no certificate")
        other.start()
        assert other.post(operation="user_info")["username"] == "admin"
