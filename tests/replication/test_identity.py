import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from replication.identity import identify, is_revoked, names_of, normalized_serial, same_serial
from tests.replication.peers import AUTHORITY, parsed


def certificate(*alternative: str, common_name: str | None = None) -> x509.Certificate:
    return parsed(AUTHORITY.issue_cert(*alternative, common_name=common_name))


def test_the_common_name_comes_before_dns_names_and_these_before_addresses() -> None:
    shown = certificate("10.0.0.1", "node-b", "node-c", common_name="node-a")
    assert names_of(shown) == ("node-a", "node-b", "node-c", "10.0.0.1")


def test_a_certificate_may_have_no_common_name() -> None:
    assert names_of(certificate("node-a")) == ("node-a",)


def test_of_several_common_names_the_most_specific_one_counts() -> None:
    subject = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, name) for name in ("organisation", "department", "node-a")]
    )
    assert names_of(signed(subject)) == ("node-a",)


def signed(subject: x509.Name) -> x509.Certificate:
    like = parsed(AUTHORITY.issue_cert("x"))
    key = ed25519.Ed25519PrivateKey.generate()
    builder = x509.CertificateBuilder(
        issuer_name=like.issuer,
        subject_name=subject,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=like.not_valid_before_utc,
        not_valid_after=like.not_valid_after_utc,
    )
    return builder.sign(key, None)


def test_the_case_of_names_does_not_count() -> None:
    assert identify(certificate("x", common_name="Node-A"), {"node-a"}) == "node-a"
    assert identify(certificate("x", common_name="node-a"), {"Node-A": 1}) == "Node-A"


def test_the_first_name_that_is_known_identifies() -> None:
    shown = certificate("node-b", "node-c", common_name="somebody")
    assert identify(shown, ["node-c", "node-b"]) == "node-b"


@pytest.mark.parametrize("known", ["node", "node-a.example", "a", "", "*", "10.0.0.11"])
def test_a_name_that_is_only_similar_identifies_nobody(known: str) -> None:
    assert identify(certificate("10.0.0.1", common_name="node-a"), {known}) is None


@pytest.mark.parametrize("known", ["a.example", "*.example", "b.example"])
def test_a_wildcard_identifies_nobody(known: str) -> None:
    assert identify(certificate("*.example", common_name="*.example"), {known}) is None


def test_an_address_identifies_whichever_way_it_is_written() -> None:
    assert identify(certificate("fd00::1"), {"FD00:0:0:0:0:0:0:1"}) == "FD00:0:0:0:0:0:0:1"


def test_a_letter_that_only_looks_like_another_does_not_identify() -> None:
    kelvin = "\N{KELVIN SIGN}"
    assert kelvin.lower() == "k"
    assert identify(certificate("x", common_name=kelvin), {"k"}) is None


@pytest.mark.parametrize("text", ["0A1B", "a1b", "0a:1b", "00:0A:1B", 0xA1B])
def test_serial_numbers_are_equal_as_numbers(text: str | int) -> None:
    assert same_serial(text, "A1B")


@pytest.mark.parametrize("text", ["", ":", "0x1F", "-1", "1_0", "zz", "１"])
def test_what_is_no_serial_number_is_said_to_be_none(text: str) -> None:
    with pytest.raises(ValueError, match="hexadecimal"):
        normalized_serial(text)


@given(st.integers(min_value=0, max_value=(1 << 160) - 1), st.integers(min_value=0, max_value=5))
def test_every_way_to_write_a_serial_number_is_read(number: int, zeros: int) -> None:
    text = "0" * zeros + f"{number:X}"
    assert normalized_serial(text) == normalized_serial(":".join(text.lower())) == number


def test_a_revoked_serial_number_is_found_among_entries_that_are_none() -> None:
    shown = certificate("node-a")
    serial = f"{shown.serial_number:x}"
    assert is_revoked(shown, ["nonsense", "", f"00{serial}"])
    assert is_revoked(shown, [shown.serial_number])
    assert not is_revoked(shown, ["nonsense", serial + "0"])
    assert not is_revoked(shown, [])
