"""Requests for certificates: what is taken from them, and whose names are given to whom."""

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from node.certificate_files import is_issued_by, pem_of
from node.certificate_issuing import VALIDITY, issue_authority, new_key
from node.certificate_signing import (
    REQUEST_LENGTH_MAX,
    SigningRules,
    make_request,
    may_sign,
    sign_request,
    spelling,
)
from ops.errors import InvalidParams

NOW = datetime(2027, 3, 1, 12, 0, tzinfo=UTC)
AUTHORITY_KEY = new_key()
AUTHORITY = issue_authority(AUTHORITY_KEY, node="n1", now=NOW)
MEMBERS = frozenset(("n1", "n3"))
KEY = new_key()


def sign(pem: str, rules: SigningRules, *, authority: x509.Certificate = AUTHORITY) -> x509.Certificate:
    return sign_request(pem, rules, authority=authority, authority_key=AUTHORITY_KEY, now=NOW)


def joining(url_host: str | None = None, node: str = "n2", *, may_take_over: bool = False) -> SigningRules:
    return SigningRules(for_node=node, url_host=url_host, others=MEMBERS, may_take_over=may_take_over)


def request(
    *hosts: x509.GeneralName | str, subject: Sequence[str] = ("n2",), extra: x509.ExtensionType | None = None
) -> str:
    """A request by hand, as a client other than this program may make it."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text) for text in subject])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    names = [x509.DNSName(host) if isinstance(host, str) else host for host in hosts]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if extra is not None:
        builder = builder.add_extension(extra, critical=True)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def hosts_in(certificate: x509.Certificate) -> set[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in names}


def test_a_node_gets_a_certificate_for_its_names_and_the_key_it_has() -> None:
    signed = sign(make_request(KEY, node="n2", hosts=("db.example.org",)), joining("db.example.org"))
    assert hosts_in(signed) == {"n2", "db.example.org", "localhost", "127.0.0.1", "::1"}
    assert signed.subject.rfc4514_string() == "CN=n2"
    assert signed.public_key() == KEY.public_key()
    assert is_issued_by(signed, AUTHORITY)


def test_what_a_certificate_may_do_is_not_taken_from_the_request() -> None:
    wants_everything = x509.BasicConstraints(ca=True, path_length=5)
    signed = sign(request("n2", extra=wants_everything), joining())
    extensions = signed.extensions
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.digital_signature, usage.key_encipherment, usage.key_cert_sign) == (True, True, False)
    purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(purposes) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}


def test_two_certificates_for_one_request_have_different_serial_numbers_of_64_bits_or_more() -> None:
    pem = request("n2")
    numbers = {sign(pem, joining()).serial_number for _ in range(20)}
    assert len(numbers) == 20
    assert max(numbers).bit_length() >= 64


def test_a_certificate_is_valid_no_longer_than_its_authority() -> None:
    old = issue_authority(AUTHORITY_KEY, node="n1", now=NOW - VALIDITY + timedelta(days=9))
    assert sign(request("n2"), joining(), authority=old).not_valid_after_utc == old.not_valid_after_utc


def test_only_dns_names_and_addresses_are_copied() -> None:
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    signed = sign(request("n2", address, x509.RFC822Name("otter@example.org")), joining())
    assert hosts_in(signed) == {"n2", "127.0.0.1"}


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(public_exponent=65537, key_size=2048),
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["RSA", "P-384", "Ed25519"],
)
def test_keys_of_every_usual_type_are_signed(key: rsa.RSAPrivateKey) -> None:
    signed = sign(make_request(key, node="n2", hosts=()), joining())
    assert signed.public_key() == key.public_key()


@pytest.mark.parametrize(
    ("pem", "rules", "reason"),
    [
        (request("n2"), joining(node="n4"), "it is not for 'n4'"),
        (request("n2", subject=("n3",)), joining(), "it is not for 'n2'"),
        (request("n2", subject=()), joining(), "it is not for 'n2'"),
        (request("n2", "n3"), joining(), "'n3' is neither 'n2' nor the host of its URL"),
        (request("*.example.org", "n2"), joining(), "'*.example.org' is neither 'n2' nor the host of its URL"),
        (request("n2", "n3"), joining("n3"), "'n3' is the name of another member"),
        (request(subject=("n3",)), joining(node="n3"), "'n3' is the name of another member"),
        (request(subject=("N3",)), SigningRules(others=MEMBERS), "'n3' is the name of another member"),
        (request("n1"), SigningRules(others=MEMBERS), "'n1' is the name of another member"),
        (request(subject=()), SigningRules(), "it names no host"),
        (request("a b"), SigningRules(), "'a b' is no host name"),
        (request(*(f"h{n}" for n in range(101))), SigningRules(), "it names more than 100 hosts"),
        ("n2", SigningRules(), "it is no certificate signing request in PEM format"),
        (pem_of(AUTHORITY), SigningRules(), "it is no certificate signing request in PEM format"),
        ("\ud800", SigningRules(), "it is no certificate signing request in PEM format"),
        ("x" * (REQUEST_LENGTH_MAX + 1), SigningRules(), f"it is longer than {REQUEST_LENGTH_MAX} characters"),
    ],
)
def test_a_request_for_more_than_is_due_is_refused(pem: str, rules: SigningRules, reason: str) -> None:
    with pytest.raises(InvalidParams) as refused:
        sign(pem, rules)
    assert str(refused.value) == f"Error verifying CSR: {reason}"


def test_a_request_whose_signature_was_made_with_another_key_is_refused() -> None:
    signed = x509.load_pem_x509_csr(request("n2").encode())
    torn = signed.public_bytes(Encoding.DER)[:-1] + bytes([signed.public_bytes(Encoding.DER)[-1] ^ 1])
    pem = x509.load_der_x509_csr(torn).public_bytes(Encoding.PEM).decode()
    with pytest.raises(InvalidParams, match="Error verifying CSR: its signature does not fit its key"):
        sign(pem, joining())


def test_who_may_take_over_a_name_gets_it() -> None:
    assert hosts_in(sign(request("n3", subject=("n3",)), joining(node="n3", may_take_over=True))) == {"n3"}
    assert hosts_in(sign(request("n1", "n3"), SigningRules(others=MEMBERS, may_take_over=True))) == {"n1", "n3"}


def test_a_loopback_that_is_the_name_of_a_member_is_left_out() -> None:
    rules = SigningRules(for_node="n2", others=frozenset(("127.0.0.1", "localhost")), may_take_over=True)
    assert hosts_in(sign(make_request(KEY, node="n2", hosts=()), rules)) == {"n2", "::1"}


def test_a_request_that_names_no_host_beside_its_common_name_is_for_that() -> None:
    assert hosts_in(sign(request(), joining())) == {"n2"}


def test_a_node_whose_name_is_too_long_for_a_common_name_is_known_by_its_host_name() -> None:
    node = "a" * 60 + ".example.org"
    signed = sign(make_request(KEY, node=node, hosts=()), joining(node=node))
    assert node in hosts_in(signed) and not list(signed.subject)


@pytest.mark.parametrize(
    ("left", "right"), [("N1", "n1"), ("127.0.0.1", "127.0.0.1"), ("[::1]", "0:0:0:0:0:0:0:1"), ("n1.", "n1")]
)
def test_spellings_of_one_name_are_one(left: str, right: str) -> None:
    assert spelling(left) == spelling(right)


@pytest.mark.parametrize(
    ("at", "may"),
    [(NOW, True), (NOW - timedelta(days=1), False), (NOW + VALIDITY, False)],
    ids=["now", "early", "late"],
)
def test_an_authority_signs_while_it_is_valid(at: datetime, may: bool) -> None:
    assert may_sign(AUTHORITY, at) is may


def test_a_certificate_that_is_no_authority_does_not_sign() -> None:
    assert not may_sign(sign(request("n2"), joining()), NOW)
