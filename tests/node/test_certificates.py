"""The keys folder: what a first start makes, what later starts mend, and that no crash in between leaves it unusable."""

import os
import shutil
import ssl
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID

from node.certificate_files import is_issued_by, is_key_of, read_chain, read_key, write_certificate, write_key
from node.certificate_issuing import VALIDITY, issue_authority, issue_leaf, new_key
from node.certificate_pairs import own_pair
from node.certificate_rows import certificate_rows
from node.certificates import (
    AUTHORITY,
    AUTHORITY_KEY,
    CERTIFICATE,
    KEY,
    NodeCertificates,
    ensure_certificates,
    renew_certificates,
)
from node.server_tls import HTTP1_ALPN, server_context
from tests.node.tls_peers import shake_hands, strict_client

ALL_FILES = (AUTHORITY_KEY, AUTHORITY, KEY, CERTIFICATE)
NOW = datetime(2027, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ALL_FILES}


def set_aside_names(folder: Path) -> list[str]:
    return sorted(path.name.split(".pem.")[0] for path in folder.glob("*.unused"))


def assert_whole(folder: Path, node: str) -> None:
    """The rule that every start leaves true: four files that fit together, and a chain that a strict client accepts."""
    authority, chain = read_chain(folder / AUTHORITY), read_chain(folder / CERTIFICATE)
    authority_key, key = read_key(folder / AUTHORITY_KEY), read_key(folder / KEY)
    assert authority and chain and authority_key and key
    assert is_key_of(authority_key, authority[0])
    assert is_key_of(key, chain[0])
    assert is_issued_by(chain[0], authority[0])
    found = NodeCertificates(keys_path=folder, authority=authority[0], chain=tuple(chain))
    seen = shake_hands(server_context(own_pair(found), HTTP1_ALPN), strict_client(folder / AUTHORITY), host=node)
    assert seen.leaf == chain[0]
    assert not list(folder.glob(".*.new"))


def test_a_first_start_makes_all_four_files_for_the_owner_alone(keys: Path) -> None:
    ensure_certificates(keys, node="n1.example.org")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in keys.iterdir()}
    assert modes == dict.fromkeys(ALL_FILES, 0o600)
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700


def test_a_keys_folder_that_others_can_enter_is_closed_to_them(keys: Path) -> None:
    keys.mkdir(mode=0o755)
    ensure_certificates(keys, node="n1")
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700


@pytest.mark.parametrize("host", ["n1.example.org", "localhost", "127.0.0.1", "::1", "db.example.org", "127.0.0.7"])
def test_a_strict_client_that_trusts_the_authority_accepts_every_name_of_the_node(keys: Path, host: str) -> None:
    made = ensure_certificates(keys, node="n1.example.org", hosts=("db.example.org", "127.0.0.7"))
    server = server_context(own_pair(made), HTTP1_ALPN)
    assert shake_hands(server, strict_client(keys / AUTHORITY), host=host).leaf == made.chain[0]


def test_a_strict_client_refuses_a_name_that_the_node_does_not_have(keys: Path) -> None:
    server = server_context(own_pair(ensure_certificates(keys, node="n1")), HTTP1_ALPN)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(server, strict_client(keys / AUTHORITY), host="n2")


def test_the_chain_passes_an_independent_verifier_as_server_and_as_client(keys: Path) -> None:
    made = ensure_certificates(keys, node="n1.example.org")
    policy = verification.PolicyBuilder().store(verification.Store([made.authority]))
    for_server = policy.build_server_verifier(x509.DNSName("n1.example.org"))
    assert for_server.verify(made.chain[0], []) == [made.chain[0], made.authority]
    assert policy.build_client_verifier().verify(made.chain[0], []).chain == [made.chain[0], made.authority]


def test_the_authority_may_sign_certificates_and_nothing_else(keys: Path) -> None:
    authority = ensure_certificates(keys, node="n1").authority
    constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = authority.extensions.get_extension_for_class(x509.KeyUsage)
    assert constraints.critical and constraints.value.ca
    assert usage.critical and usage.value.key_cert_sign and usage.value.crl_sign and not usage.value.digital_signature
    assert authority.subject.rfc4514_string() == "CN=logmesh-Certificate-Authority-n1"


def test_the_certificate_is_for_servers_and_clients_and_is_no_authority(keys: Path) -> None:
    leaf = ensure_certificates(keys, node="n1").chain[0]
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert usage.digital_signature and usage.key_encipherment and not usage.key_cert_sign
    assert set(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == {
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    }


def test_both_are_valid_for_ten_years_from_an_hour_ago(keys: Path) -> None:
    made = ensure_certificates(keys, node="n1", now=NOW)
    for certificate in (made.authority, made.chain[0]):
        assert certificate.not_valid_before_utc == NOW - timedelta(hours=1)
        assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == VALIDITY


def test_a_node_name_too_long_for_a_common_name_still_identifies_the_node(keys: Path) -> None:
    node = "a" * 60 + ".example.org"
    made = ensure_certificates(keys, node=node)
    server = server_context(own_pair(made), HTTP1_ALPN)
    assert shake_hands(server, strict_client(keys / AUTHORITY), host=node).leaf == made.chain[0]


def test_a_second_start_changes_nothing(keys: Path) -> None:
    ensure_certificates(keys, node="n1", hosts=("db.example.org",))
    before = contents(keys)
    ensure_certificates(keys, node="n1", hosts=("db.example.org",))
    assert contents(keys) == before


@pytest.mark.parametrize(
    ("node", "hosts", "later"),
    [
        ("n2", (), timedelta()),
        ("n1", ("db.example.org",), timedelta()),
        ("n1", (), VALIDITY - timedelta(days=29)),
    ],
    ids=["renamed", "another address", "ends within 30 days"],
)
def test_the_certificate_is_issued_anew_for_the_same_key(
    keys: Path, node: str, hosts: tuple[str, ...], later: timedelta
) -> None:
    old = ensure_certificates(keys, node="n1", now=NOW)
    before = contents(keys)
    new = ensure_certificates(keys, node=node, hosts=hosts, now=NOW + later)
    assert new.chain[0] != old.chain[0]
    assert {name for name, content in contents(keys).items() if content != before[name]} <= {CERTIFICATE, AUTHORITY}
    assert new.chain[0].not_valid_after_utc > NOW + later + timedelta(days=30)
    assert is_issued_by(new.chain[0], new.authority)


def test_a_certificate_that_ends_in_more_than_30_days_stays(keys: Path) -> None:
    ensure_certificates(keys, node="n1", now=NOW)
    before = contents(keys)
    ensure_certificates(keys, node="n1", now=NOW + VALIDITY - timedelta(days=31))
    assert contents(keys) == before


def test_clients_that_trust_the_old_authority_accept_its_renewal(keys: Path, tmp_path: Path) -> None:
    long_ago = datetime.now(UTC) - VALIDITY + timedelta(days=20)
    key, leaf_key = new_key(), new_key()
    authority = issue_authority(key, node="n1", now=long_ago)
    leaf = issue_leaf(leaf_key.public_key(), node="n1", hosts=(), authority=authority, authority_key=key, now=long_ago)
    keys.mkdir()
    for name, private in ((AUTHORITY_KEY, key), (KEY, leaf_key)):
        write_key(keys / name, private)
    for name, certificate in ((AUTHORITY, authority), (CERTIFICATE, leaf)):
        write_certificate(keys / name, certificate)
    trusted = tmp_path / "trusted.pem"
    shutil.copy(keys / AUTHORITY, trusted)
    made = ensure_certificates(keys, node="n1")
    assert made.authority != authority
    seen = shake_hands(server_context(own_pair(made), HTTP1_ALPN), strict_client(trusted), host="n1")
    assert seen.leaf == made.chain[0]


def test_a_clock_that_is_not_set_spoils_no_certificate(keys: Path) -> None:
    ensure_certificates(keys, node="n1", now=NOW)
    before = contents(keys)
    ensure_certificates(keys, node="n1", now=datetime(1970, 1, 1, 0, 5, tzinfo=UTC))
    assert contents(keys) == before


def test_a_first_start_with_a_clock_that_is_not_set_makes_certificates_that_are_valid_later(keys: Path) -> None:
    ensure_certificates(keys, node="n1", now=datetime(1970, 1, 1, tzinfo=UTC))
    assert_whole(keys, "n1")


def test_certificates_from_a_time_when_the_clock_was_ahead_are_replaced(keys: Path) -> None:
    ensure_certificates(keys, node="n1", now=datetime.now(UTC) + timedelta(days=900))
    ensure_certificates(keys, node="n1")
    assert_whole(keys, "n1")


@pytest.mark.parametrize("missing", ALL_FILES)
def test_a_start_replaces_a_missing_file(keys: Path, missing: str) -> None:
    ensure_certificates(keys, node="n1")
    (keys / missing).unlink()
    ensure_certificates(keys, node="n1")
    assert_whole(keys, "n1")


@pytest.mark.parametrize("damaged", ALL_FILES)
def test_a_start_replaces_a_damaged_file_and_keeps_it_under_another_name(keys: Path, damaged: str) -> None:
    ensure_certificates(keys, node="n1")
    (keys / damaged).write_bytes(b"\0 torn")
    ensure_certificates(keys, node="n1")
    assert_whole(keys, "n1")
    kept = [path for path in keys.glob(f"{damaged}.*.unused") if path.read_bytes() == b"\0 torn"]
    assert len(kept) == 1


def test_removing_the_certificate_keeps_the_key_for_which_others_may_have_signed(keys: Path) -> None:
    ensure_certificates(keys, node="n1")
    before = contents(keys)
    (keys / CERTIFICATE).unlink()
    ensure_certificates(keys, node="n1")
    assert contents(keys)[KEY] == before[KEY]


def test_a_crash_at_any_step_of_the_first_start_is_mended_by_the_next(
    keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed process leaves exactly what is on the disk: it is copied before and after each step, then started on."""
    left = record_steps(keys, tmp_path / "left", monkeypatch, lambda: ensure_certificates(keys, node="n1"))
    assert len(left) > 4 * len(ALL_FILES)
    for folder in left:
        known = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".pem"}
        ensure_certificates(folder, node="n1")
        assert_whole(folder, "n1")
        assert known.items() <= contents(folder).items(), "a file that was complete was thrown away"


def test_a_crash_at_any_step_of_a_renewal_is_mended_by_the_next_start(
    keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure_certificates(keys, node="n1")
    left = record_steps(keys, tmp_path / "left", monkeypatch, lambda: renew_certificates(keys, node="n1"))
    for folder in left:
        ensure_certificates(folder, node="n1")
        assert_whole(folder, "n1")


def test_a_crash_while_an_unusable_pair_is_replaced_is_mended_by_the_next_start(
    keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure_certificates(keys, node="n1")
    (keys / AUTHORITY_KEY).write_text("torn")
    (keys / KEY).write_text("torn")
    left = record_steps(keys, tmp_path / "left", monkeypatch, lambda: ensure_certificates(keys, node="n1"))
    for folder in left:
        ensure_certificates(folder, node="n1")
        assert_whole(folder, "n1")


def record_steps(folder: Path, into: Path, monkeypatch: pytest.MonkeyPatch, run: Callable[[], object]) -> list[Path]:
    """Copies of ``folder`` around each call by which ``run`` changes it."""
    copies: list[Path] = []

    def copy() -> None:
        if folder.exists():
            copies.append(into / str(len(copies)))
            shutil.copytree(folder, copies[-1])

    def watched(call: Callable[..., object]) -> Callable[..., object]:
        def step(*args: object, **kwargs: object) -> object:
            copy()
            try:
                return call(*args, **kwargs)
            finally:
                copy()

        return step

    with monkeypatch.context() as patch:
        for name in ("open", "fsync", "replace", "rename"):
            patch.setattr(f"node.configuration_file.os.{name}", watched(getattr(os, name)))
        patch.setattr(Path, "unlink", watched(Path.unlink))
        run()
    return copies


def operators_pair(keys: Path, *names: str) -> trustme.CA:
    authority = trustme.CA()
    issued = authority.issue_cert(*names)
    (keys / CERTIFICATE).write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    (keys / KEY).write_bytes(issued.private_key_pem.bytes())
    return authority


def test_a_pair_of_another_authority_in_the_keys_folder_stays(keys: Path, tmp_path: Path) -> None:
    ensure_certificates(keys, node="n1")
    authority = operators_pair(keys, "db.example.org")
    before = contents(keys)
    found = ensure_certificates(keys, node="n1")
    assert contents(keys) == before
    assert not found.is_own
    authority.cert_pem.write_to_path(str(tmp_path / "root.pem"))
    seen = shake_hands(
        server_context(own_pair(found), HTTP1_ALPN), strict_client(tmp_path / "root.pem"), host="db.example.org"
    )
    assert seen.leaf == found.chain[0]


def test_a_foreign_certificate_without_its_key_is_kept_under_another_name(keys: Path) -> None:
    ensure_certificates(keys, node="n1")
    key = (keys / KEY).read_bytes()
    operators_pair(keys, "db.example.org")
    (keys / KEY).write_bytes(key)
    ensure_certificates(keys, node="n1")
    assert_whole(keys, "n1")
    assert set_aside_names(keys) == ["certificate"]


def test_an_operators_authority_with_its_key_signs_the_nodes_certificate(keys: Path) -> None:
    authority = trustme.CA()
    keys.mkdir()
    authority.cert_pem.write_to_path(str(keys / AUTHORITY))
    authority.private_key_pem.write_to_path(str(keys / AUTHORITY_KEY))
    made = ensure_certificates(keys, node="n1")
    assert_whole(keys, "n1")
    assert made.authority.subject != made.chain[0].subject
    assert (keys / AUTHORITY).read_bytes() == authority.cert_pem.bytes()


def test_an_encrypted_key_is_kept_under_another_name(keys: Path) -> None:
    keys.mkdir()
    encrypted = new_key().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"word")
    )
    (keys / KEY).write_bytes(encrypted)
    ensure_certificates(keys, node="n1")
    assert_whole(keys, "n1")
    assert set_aside_names(keys) == ["privateKey"]


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)])
def test_a_key_of_another_type_in_the_keys_folder_gets_the_nodes_certificate(
    keys: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
) -> None:
    keys.mkdir()
    write_key(keys / KEY, key)
    ensure_certificates(keys, node="n1")
    assert_whole(keys, "n1")
    assert read_key(keys / KEY) == key or is_key_of(key, (read_chain(keys / CERTIFICATE) or [])[0])


def test_a_renewal_replaces_authority_and_certificate_and_keeps_the_nodes_key(keys: Path) -> None:
    ensure_certificates(keys, node="n1")
    before = contents(keys)
    renew_certificates(keys, node="n1")
    assert_whole(keys, "n1")
    assert {name for name, content in contents(keys).items() if content == before[name]} == {KEY}


def test_a_renewal_leaves_a_foreign_pair_alone(keys: Path) -> None:
    ensure_certificates(keys, node="n1")
    operators_pair(keys, "db.example.org")
    before = contents(keys)
    renew_certificates(keys, node="n1")
    assert contents(keys)[CERTIFICATE] == before[CERTIFICATE]
    assert contents(keys)[KEY] == before[KEY]


def test_the_rows_for_the_certificate_table_hold_no_key(keys: Path) -> None:
    authority, leaf = certificate_rows(ensure_certificates(keys, node="n1"), node="n1")
    assert "PRIVATE" not in repr((authority, leaf))
    assert leaf["private_key_name"] == KEY and "private_key_name" not in authority
    assert (authority["name"], leaf["name"]) == ("logmesh-Certificate-Authority-n1", "n1")
    assert (authority["uses"], leaf["uses"]) == (["https"], ["https", "wss"])
    assert authority["is_authority"] and not leaf["is_authority"]
    assert authority["is_self_signed"] and leaf["is_self_signed"]
