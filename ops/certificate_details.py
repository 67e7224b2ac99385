"""A certificate as ``list_certificates`` describes it: the ``details`` of an ``hdb_certificate`` row. Public facts
only.
"""

from datetime import datetime
from typing import Any, Final

from cryptography import x509

_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
"""Not ``strftime``: its names follow the process's locale."""


def certificate_details(certificate: x509.Certificate) -> dict[str, Any]:
    """Issuer, subject, alternative names, serial number and validity, each as one line of text."""
    return {
        "issuer": _name(certificate.issuer),
        "subject": _name(certificate.subject),
        "subject_alt_name": ", ".join(_alternative_names(certificate)),
        "serial_number": serial_number(certificate.serial_number),
        "valid_from": _instant(certificate.not_valid_before_utc),
        "valid_to": _instant(certificate.not_valid_after_utc),
    }


def serial_number(number: int) -> str:
    """Upper-case hex of whole bytes."""
    digits = f"{number:X}"
    return digits if len(digits) % 2 == 0 else f"0{digits}"


def _name(name: x509.Name) -> str:
    return " ".join(f"{attribute.rfc4514_attribute_name}={_text(attribute.value)}" for attribute in name)


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "replace")


def _alternative_names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    hosts = [f"DNS:{host}" for host in names.get_values_for_type(x509.DNSName)]
    return hosts + [f"IP Address:{address}" for address in names.get_values_for_type(x509.IPAddress)]


def _instant(at: datetime) -> str:
    return f"{_MONTHS[at.month - 1]} {at.day:2d} {at:%H:%M:%S} {at.year} GMT"
