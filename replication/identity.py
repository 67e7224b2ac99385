"""Which node a certificate speaks for, and whether its serial number was revoked: pure, one answer for both sides.

With public roots trusted anybody can show a certificate that TLS accepts, so the name is the authorisation (spec: names
are matched exactly). The alphabet's case does not count; wildcards identify nobody; no address is looked up.
"""

from collections.abc import Collection, Iterable
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

NO_ENTRY: Final = "no hdb_nodes entry for {name}; run add_node from this node specifying the peer URL to register it"
NO_PROOF: Final = "no certificate and no credentials"
REVOKED: Final = "certificate {serial:X} of {name} is revoked"
_SERIAL_DIGITS: Final = frozenset("0123456789abcdefABCDEF")


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """What it may be called, best first: its most specific CN, its DNS names, its addresses. Empty where its subject or
    its extensions cannot be read.
    """
    try:
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        names = [str(one.value) for one in common[-1:] if isinstance(one.value, str)]
        names += _alternative_names(certificate)
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return ()
    return tuple(dict.fromkeys(normalized_name(name) for name in names if name and "*" not in name))


def _alternative_names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.DNSName) + [str(one) for one in names.get_values_for_type(x509.IPAddress)]


def normalized_name(name: str) -> str:
    """The form in which two spellings of one node name are equal.

    Only ASCII is folded: other alphabets have letters whose lower case is an ASCII letter, and a certificate made
    out to one of them must not pass for the other.
    """
    try:
        return str(ip_address(name))
    except ValueError:
        return name.lower() if name.isascii() else name


def identify(certificate: x509.Certificate, known: Collection[str]) -> str | None:
    """The first name of ``certificate`` that is a known one, as ``known`` spells it; None if it is nobody's."""
    spellings = {normalized_name(name): name for name in known}
    return next((spellings[name] for name in names_of(certificate) if name in spellings), None)


def normalized_serial(serial: str | int) -> int:
    """Serial numbers are shown as hex text, with or without colons and leading zeros. Raises ``ValueError``."""
    if isinstance(serial, int):
        return serial
    digits = serial.replace(":", "").strip()
    if not digits or not _SERIAL_DIGITS.issuperset(digits):
        raise ValueError("a serial number is hexadecimal text")
    return int(digits, 16)


def same_serial(a: str | int, b: str | int) -> bool:
    """Raises ``ValueError`` where one of them is no serial number."""
    return normalized_serial(a) == normalized_serial(b)


def is_revoked(certificate: x509.Certificate, revoked: Iterable[str | int]) -> bool:
    """Whether its serial number is in a list that others wrote: an entry that is no serial number matches nothing."""
    return any(_matches(certificate.serial_number, serial) for serial in revoked)


def _matches(serial_number: int, listed: str | int) -> bool:
    try:
        return normalized_serial(listed) == serial_number
    except ValueError:
        return False
