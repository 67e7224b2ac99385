"""What ``list_certificates`` tells about a certificate."""

import ipaddress
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ops.certificate_details import certificate_details, serial_number


def certificate(*hosts: x509.GeneralName) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, "db.example.org"),
            x509.NameAttribute(NameOID.COUNTRY_NAME, "NL"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Otter Works"),
        ]
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "A Root")]))
        .public_key(key.public_key())
        .serial_number(0xABC)
        .not_valid_before(datetime(2026, 11, 3, 8, 13, tzinfo=UTC))
        .not_valid_after(datetime(2036, 1, 23, 18, 0, 59, tzinfo=UTC))
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
    return builder.sign(key, hashes.SHA256())


def test_details_are_lines_of_text() -> None:
    hosts = (x509.DNSName("db.example.org"), x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    assert certificate_details(certificate(*hosts)) == {
        "issuer": "CN=A Root",
        "subject": "CN=db.example.org C=NL O=Otter Works",
        "subject_alt_name": "DNS:db.example.org, IP Address:127.0.0.1",
        "serial_number": "0ABC",
        "valid_from": "Nov  3 08:13:00 2026 GMT",
        "valid_to": "Jan 23 18:00:59 2036 GMT",
    }


def test_a_certificate_without_alternative_names_has_an_empty_line_for_them() -> None:
    assert certificate_details(certificate())["subject_alt_name"] == ""


@pytest.mark.parametrize(("number", "text"), [(1, "01"), (0xAB, "AB"), (0xABC, "0ABC")])
def test_serial_numbers_are_whole_bytes(number: int, text: str) -> None:
    assert serial_number(number) == text
