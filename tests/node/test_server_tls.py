"""What a listener shows in real handshakes: which pair, which protocol, and what happens when files change or break."""

import gc
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from node.certificate_files import pem_of, write_certificate, write_key
from node.certificate_issuing import issue_authority, issue_leaf, new_key
from node.certificate_pairs import CertificatePair, TablePairs, with_own
from node.certificate_rows import ConfiguredFiles, rows_of_files
from node.certificates import NodeCertificates, ensure_certificates
from node.errors import StartError
from node.key_files import KeyFiles, state_of
from node.server_tls import HTTP1_ALPN, HTTP2_ALPN, ServerTls
from node.settings import TlsFiles
from tests.node.tls_peers import shake_hands, strict_client

HANDSHAKES = 300


@pytest.fixture
def made(tmp_path: Path) -> NodeCertificates:
    return ensure_certificates(tmp_path / "keys", node="n1")


@pytest.fixture
def root(tmp_path: Path) -> trustme.CA:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "root.pem"))
    return authority


def write_pair(folder: Path, authority: trustme.CA, *hosts: str) -> TlsFiles:
    folder.mkdir(exist_ok=True)
    issued = authority.issue_cert(*hosts)
    (folder / "key.pem").write_bytes(issued.private_key_pem.bytes())
    (folder / "certificate.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    return TlsFiles(certificate=folder / "certificate.pem", private_key=folder / "key.pem")


def loader(made: NodeCertificates, *entries: TlsFiles) -> Callable[[], list[CertificatePair]]:
    """Reads the pairs of files as a node does, without a table between."""
    configured = [ConfiguredFiles(files=files, uses=("operations",)) for files in entries]
    keys = (files.private_key for files in entries)
    pairs = TablePairs(KeyFiles(made.keys_path, (path for path in keys if path is not None)))
    return lambda: with_own(pairs.load(list(rows_of_files(made, configured, node="n1").values())), made)


def server_for(made: NodeCertificates, *entries: TlsFiles, alpn: tuple[str, ...] = HTTP1_ALPN) -> ServerTls:
    watched = [path for entry in entries for path in (entry.certificate, entry.private_key) if path is not None]
    return ServerTls(
        loader(made, *entries),
        purpose="operations-api",
        node="n1",
        look=lambda: tuple(map(state_of, watched)),
        alpn=alpn,
    )


def hosts_in(certificate: x509.Certificate) -> list[str]:
    return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
        x509.DNSName
    )


def trusting_everything() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def test_a_client_that_sends_no_server_name_gets_the_nodes_certificate(made: NodeCertificates) -> None:
    seen = shake_hands(server_for(made).context, trusting_everything(), host=None)
    assert seen.leaf == made.chain[0]


def test_the_chain_that_is_sent_ends_with_the_authority(made: NodeCertificates) -> None:
    seen = shake_hands(server_for(made).context, strict_client(made.keys_path / "ca.pem"), host="n1")
    assert seen.chain == (made.chain[0], made.authority)


@pytest.mark.parametrize(
    ("alpn", "offered", "agreed"),
    [
        (HTTP2_ALPN, ("h2", "http/1.1"), "h2"),
        (HTTP2_ALPN, ("http/1.1",), "http/1.1"),
        (HTTP1_ALPN, ("h2", "http/1.1"), "http/1.1"),
        (HTTP1_ALPN, (), None),
    ],
)
def test_the_protocol_is_the_best_that_both_sides_speak(
    made: NodeCertificates, alpn: tuple[str, ...], offered: tuple[str, ...], agreed: str | None
) -> None:
    client = strict_client(made.keys_path / "ca.pem", protocols=offered)
    assert shake_hands(server_for(made, alpn=alpn).context, client, host="n1").protocol == agreed


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_current_tls_versions_are_served(made: NodeCertificates, version: ssl.TLSVersion) -> None:
    client = strict_client(made.keys_path / "ca.pem")
    client.minimum_version = client.maximum_version = version
    assert shake_hands(server_for(made).context, client, host="n1").version == version.name.replace("_", ".")


def test_an_older_tls_version_is_refused(made: NodeCertificates) -> None:
    client = trusting_everything()
    client.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        shake_hands(server_for(made).context, client, host="n1")


def test_an_operators_certificate_is_the_default(made: NodeCertificates, root: trustme.CA, tmp_path: Path) -> None:
    server = server_for(made, write_pair(tmp_path / "own", root, "db.example.org"))
    assert hosts_in(shake_hands(server.context, trusting_everything(), host=None).leaf) == ["db.example.org"]


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("db.example.org", "db.example.org"),
        ("DB.example.org", "db.example.org"),
        ("any.example.net", "*.example.net"),
        ("two.labels.example.net", "db.example.org"),
        ("n1", "n1"),
        ("127.0.0.1", "db.example.org"),
    ],
)
def test_the_certificate_follows_the_name_that_is_asked_for(
    made: NodeCertificates, root: trustme.CA, tmp_path: Path, asked: str, shown: str
) -> None:
    wildcard = write_pair(tmp_path / "wildcard", root, "*.example.net")
    exact = write_pair(tmp_path / "exact", root, "db.example.org", "db2.example.org")
    server = server_for(made, wildcard, exact)
    assert shown in hosts_in(shake_hands(server.context, trusting_everything(), host=asked).leaf)


def test_a_configured_host_overrides_the_names_in_the_certificate(
    made: NodeCertificates, root: trustme.CA, tmp_path: Path
) -> None:
    files = write_pair(tmp_path / "own", root, "db.example.org")
    other = write_pair(tmp_path / "other", root, "other.example.org")
    named = TlsFiles(certificate=files.certificate, private_key=files.private_key, host="Alias.example.org")
    server = server_for(made, named, other)
    assert hosts_in(shake_hands(server.context, trusting_everything(), host="alias.example.org").leaf) == [
        "db.example.org"
    ]


def test_an_expired_certificate_gives_way_to_the_nodes_own(made: NodeCertificates, tmp_path: Path) -> None:
    long_ago = datetime(2001, 3, 1, tzinfo=UTC)
    key, leaf_key = new_key(), new_key()
    authority = issue_authority(key, node="other", now=long_ago)
    expired = issue_leaf(
        leaf_key.public_key(), node="n1", hosts=(), authority=authority, authority_key=key, now=long_ago
    )
    write_key(tmp_path / "key.pem", leaf_key)
    write_certificate(tmp_path / "certificate.pem", expired)
    entry = TlsFiles(certificate=tmp_path / "certificate.pem", private_key=tmp_path / "key.pem")
    server = server_for(made, entry)
    assert shake_hands(server.context, trusting_everything(), host="n1").leaf == made.chain[0]


def test_an_intermediate_of_the_configured_authorities_completes_the_chain(
    made: NodeCertificates, root: trustme.CA, tmp_path: Path
) -> None:
    between = root.create_child_ca()
    issued = between.issue_cert("db.example.org")
    (tmp_path / "leaf.pem").write_bytes(issued.cert_chain_pems[0].bytes())
    (tmp_path / "key.pem").write_bytes(issued.private_key_pem.bytes())
    between.cert_pem.write_to_path(str(tmp_path / "between.pem"))
    entry = TlsFiles(
        certificate=tmp_path / "leaf.pem", private_key=tmp_path / "key.pem", authority=tmp_path / "between.pem"
    )
    seen = shake_hands(server_for(made, entry).context, strict_client(tmp_path / "root.pem"), host="db.example.org")
    assert [pem_of(one) for one in seen.chain[1:2]] == [between.cert_pem.bytes().decode()]


def break_key(files: TlsFiles) -> None:
    write_key(files.private_key or Path(), new_key())


def break_certificate(files: TlsFiles) -> None:
    (files.certificate or Path()).write_text("nothing")


def encrypt_key(files: TlsFiles) -> None:
    data = new_key().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"word")
    )
    (files.private_key or Path()).write_bytes(data)


def remove_key(files: TlsFiles) -> None:
    (files.private_key or Path()).unlink()


@pytest.mark.parametrize(
    ("breaks", "reason"),
    [
        (break_key, "does not belong to"),
        (break_certificate, "holds no certificate"),
        (encrypt_key, "encrypted"),
        (remove_key, "does not exist"),
    ],
)
def test_a_broken_entry_is_told_in_the_log_and_left_out(
    made: NodeCertificates,
    root: trustme.CA,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    breaks: Callable[[TlsFiles], None],
    reason: str,
) -> None:
    files = write_pair(tmp_path / "own", root, "db.example.org")
    breaks(files)
    server = server_for(made, files)
    assert shake_hands(server.context, trusting_everything(), host=None).leaf == made.chain[0]
    assert reason in caplog.text and "PRIVATE KEY" not in caplog.text


def test_ciphers_that_do_not_exist_leave_the_entry_out(
    made: NodeCertificates, root: trustme.CA, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = write_pair(tmp_path / "own", root, "db.example.org")
    odd = TlsFiles(certificate=files.certificate, private_key=files.private_key, ciphers="NO-SUCH-CIPHER")
    assert shake_hands(server_for(made, odd).context, trusting_everything(), host=None).leaf == made.chain[0]
    assert "is left out" in caplog.text


def test_a_listener_without_any_usable_certificate_does_not_start() -> None:
    with pytest.raises(StartError, match="operations-api listener"):
        ServerTls(list, purpose="operations-api", node="n1")


def test_replaced_files_serve_new_handshakes_of_the_same_context(
    made: NodeCertificates, root: trustme.CA, tmp_path: Path
) -> None:
    server = server_for(made, write_pair(tmp_path / "own", root, "old.example.org"))
    context = server.context
    write_pair(tmp_path / "own", root, "new.example.org")
    server.reload_if_changed()
    assert hosts_in(shake_hands(context, trusting_everything(), host=None).leaf) == ["new.example.org"]


def test_the_last_good_certificates_stay_where_none_is_left(
    made: NodeCertificates, tmp_path: Path, root: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    pairs = loader(made, write_pair(tmp_path / "own", root, "db.example.org"))()
    server = ServerTls(lambda: pairs, purpose="operations-api", node="n1")
    pairs.clear()
    server.reload()
    assert "the last ones stay in force" in caplog.text
    assert hosts_in(shake_hands(server.context, trusting_everything(), host=None).leaf) == ["db.example.org"]


async def test_the_service_notices_replaced_files_within_two_seconds(
    made: NodeCertificates, root: trustme.CA, tmp_path: Path
) -> None:
    server = server_for(made, write_pair(tmp_path / "own", root, "old.example.org"))
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        write_pair(tmp_path / "own", root, "new.example.org")
        with trio.fail_after(2):
            while hosts_in(shake_hands(server.context, trusting_everything(), host=None).leaf) != ["new.example.org"]:
                await trio.sleep(0.02)
        nursery.cancel_scope.cancel()


def test_every_handshake_gets_a_consistent_pair_while_files_are_replaced(
    made: NodeCertificates, root: trustme.CA, tmp_path: Path
) -> None:
    """A pair that did not fit would fail the handshake, as the client checks the signature made with the key."""
    server = server_for(made, write_pair(tmp_path / "own", root, "db.example.org"))
    client = strict_client(tmp_path / "root.pem")
    for _ in range(20):
        (tmp_path / "own" / "key.pem").write_bytes(root.issue_cert("db.example.org").private_key_pem.bytes())
        server.reload_if_changed()
        shake_hands(server.context, trusting_everything(), host="db.example.org")
        write_pair(tmp_path / "own", root, "db.example.org")
        server.reload_if_changed()
        shake_hands(server.context, client, host="db.example.org")


def test_handshakes_and_reloads_leave_no_contexts_behind(made: NodeCertificates) -> None:
    server = server_for(made)
    client = trusting_everything()

    def contexts_after(rounds: int) -> int:
        for _ in range(rounds):
            shake_hands(server.context, client, host="n1")
            server.reload()
        gc.collect()
        return sum(isinstance(thing, ssl.SSLContext) for thing in gc.get_objects())

    assert contexts_after(HANDSHAKES) <= contexts_after(1) + 1
