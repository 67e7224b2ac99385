"""Files that become rows of ``hdb_certificate``: which one wins, what a broken one does, and what is shown of them."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio
import trustme
from cryptography import x509

from node.certificate_files import write_certificate, write_key
from node.certificate_issuing import issue_authority, new_key
from node.certificate_rows import ConfiguredFiles
from node.certificates import CERTIFICATE, KEY
from node.settings import TlsFiles
from tests.node.certificate_nodes import CertificateNode, chain_of, key_of, open_certificate_node

AUTHORITY_ROW = "logmesh-Certificate-Authority-n1"
HOST = "db.example.org"


@pytest.fixture
def root() -> trustme.CA:
    return trustme.CA()


def write_pair(folder: Path, authority: trustme.CA, host: str = HOST) -> TlsFiles:
    folder.mkdir(exist_ok=True)
    issued = authority.issue_cert(host, common_name=host)
    (folder / "key.pem").write_text(key_of(issued))
    (folder / "certificate.pem").write_text(chain_of(issued))
    return TlsFiles(certificate=folder / "certificate.pem", private_key=folder / "key.pem")


def set_age(path: Path | None, seconds: float) -> None:
    """Let ``path`` be as old as that."""
    assert path is not None
    changed_at = path.stat().st_mtime - seconds
    os.utime(path, (changed_at, changed_at))


@asynccontextmanager
async def started(path: Path, *entries: TlsFiles, name: str = "n1") -> AsyncIterator[CertificateNode]:
    configured = [ConfiguredFiles(files=files, uses=("https", "operations")) for files in entries]
    async with open_certificate_node(path / "node", name, configured=configured) as node:
        yield node


def shown(node: CertificateNode) -> set[x509.Certificate]:
    return {pair.leaf for pair in node.source.pairs()}


async def test_the_files_of_the_keys_folder_are_rows(tmp_path: Path) -> None:
    async with started(tmp_path) as node:
        assert node.names() == [AUTHORITY_ROW, "n1"]
        assert all(row["is_self_signed"] for row in node.store.rows())


async def test_a_configured_certificate_is_a_row_with_the_time_of_its_file(tmp_path: Path, root: trustme.CA) -> None:
    files = write_pair(tmp_path / "own", root)
    async with started(tmp_path, files) as node:
        row = node.row(HOST)
        assert files.certificate is not None
        assert row["file_timestamp"] == files.certificate.stat().st_mtime_ns // 1_000_000
        assert (row["private_key_name"], row["uses"]) == ("key.pem", ["https", "operations"])
        assert (row["is_self_signed"], row["is_authority"]) == (False, False)
        assert len(shown(node)) == 2


async def test_configured_authorities_are_rows_without_a_key(tmp_path: Path, root: trustme.CA) -> None:
    own = write_pair(tmp_path / "own", root)
    root.cert_pem.write_to_path(str(tmp_path / "root.pem"))
    files = TlsFiles(certificate=own.certificate, private_key=own.private_key, authority=tmp_path / "root.pem")
    async with started(tmp_path, files) as node:
        found = [row for row in node.store.rows() if row["is_authority"] and not row["is_self_signed"]]
        assert [row["certificate"] for row in found] == [root.cert_pem.bytes().decode()]
        assert "private_key_name" not in found[0]


async def test_a_certificate_that_is_its_own_authority_is_two_rows(tmp_path: Path) -> None:
    key = new_key()
    alone = issue_authority(key, node="alone", now=datetime.now(UTC))
    write_certificate(tmp_path / "c.pem", alone)
    write_key(tmp_path / "key.pem", key)
    files = TlsFiles(certificate=tmp_path / "c.pem", private_key=tmp_path / "key.pem", authority=tmp_path / "c.pem")
    async with started(tmp_path, files) as node:
        found = {row["name"]: row["is_authority"] for row in node.store.rows() if not row["is_self_signed"]}
        name = "logmesh-Certificate-Authority-alone"
        assert found == {name: False, f"{name}-2": True}


async def test_two_configured_certificates_of_one_name_are_both_shown(tmp_path: Path, root: trustme.CA) -> None:
    entries = write_pair(tmp_path / "a", root), write_pair(tmp_path / "b", root)
    async with started(tmp_path, *entries) as node:
        assert {HOST, f"{HOST}-2"} <= set(node.names())
        assert len(shown(node)) == 3


async def test_a_configured_certificate_with_the_nodes_name_takes_the_place_of_its_own(
    tmp_path: Path, root: trustme.CA
) -> None:
    async with started(tmp_path) as node:
        assert node.row("n1")["is_self_signed"]
    async with started(tmp_path, write_pair(tmp_path / "own", root, "n1")) as node:
        assert not node.row("n1")["is_self_signed"]
    async with started(tmp_path, write_pair(tmp_path / "own", root, "n1")) as node:
        assert not node.row("n1")["is_self_signed"]


async def test_an_entry_for_the_keys_folder_says_how_the_nodes_own_certificate_is_used(tmp_path: Path) -> None:
    files = TlsFiles(private_key=tmp_path / "node" / "keys" / KEY, host="alias.example.org", ciphers="ECDHE+AESGCM")
    async with started(tmp_path, files) as node:
        assert node.names() == [AUTHORITY_ROW, "n1"]
        (pair,) = node.source.pairs()
        assert (pair.hosts, pair.ciphers, pair.is_generated) == (("alias.example.org",), "ECDHE+AESGCM", True)


async def test_a_newer_file_replaces_the_row_and_an_older_one_does_not(tmp_path: Path, root: trustme.CA) -> None:
    async with started(tmp_path, write_pair(tmp_path / "own", root)) as node:
        first = node.row(HOST)
    older = write_pair(tmp_path / "own", root)
    set_age(older.certificate, 3600)
    async with started(tmp_path, older) as node:
        assert node.row(HOST)["certificate"] == first["certificate"]
    newer = write_pair(tmp_path / "own", root)
    set_age(newer.certificate, -3600)
    async with started(tmp_path, newer) as node:
        assert node.row(HOST)["certificate"] != first["certificate"]


async def test_what_an_operation_put_in_the_place_of_a_file_stays_until_the_file_is_newer(
    tmp_path: Path, root: trustme.CA
) -> None:
    issued = root.issue_cert(HOST)
    files = write_pair(tmp_path / "own", root)
    async with started(tmp_path, files) as node:
        await node.add(chain_of(issued), private_key=key_of(issued), name=HOST)
    async with started(tmp_path, files) as node:
        assert node.row(HOST)["certificate"] == chain_of(issued)
    set_age(files.certificate, -3600)
    async with started(tmp_path, files) as node:
        assert node.row(HOST)["certificate"] != chain_of(issued)


async def test_a_start_that_finds_nothing_new_writes_nothing(tmp_path: Path, root: trustme.CA) -> None:
    files = write_pair(tmp_path / "own", root)
    async with started(tmp_path, files) as node:
        before = node.store.rows()
    async with started(tmp_path, files) as node:
        assert node.store.rows() == before


async def test_after_a_change_of_name_no_row_speaks_of_the_old_one(tmp_path: Path) -> None:
    async with started(tmp_path) as node:
        assert "n1" in node.names()
    async with started(tmp_path, name="n2") as node:
        assert node.names() == [AUTHORITY_ROW, "n2"]
        assert {pair.hosts[-1] for pair in node.source.pairs()} == {"n2"}


def break_certificate(files: TlsFiles) -> None:
    (files.certificate or Path()).write_text("nothing")


def break_authority(files: TlsFiles) -> None:
    (files.authority or Path()).unlink()


@pytest.mark.parametrize("breaks", [break_certificate, break_authority])
async def test_a_broken_file_leaves_its_row_and_the_others_alone(
    tmp_path: Path, root: trustme.CA, caplog: pytest.LogCaptureFixture, breaks: Callable[[TlsFiles], None]
) -> None:
    root.cert_pem.write_to_path(str(tmp_path / "root.pem"))
    own = write_pair(tmp_path / "own", root)
    files = TlsFiles(certificate=own.certificate, private_key=own.private_key, authority=tmp_path / "root.pem")
    async with started(tmp_path, files) as node:
        before = node.names()
    breaks(files)
    async with started(tmp_path, files) as node:
        assert node.names() == before
        assert "is left out" in caplog.text
        assert len(shown(node)) == 2


async def test_a_key_that_is_replaced_before_its_certificate_interrupts_nothing(
    tmp_path: Path, root: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    files = write_pair(tmp_path / "own", root)
    async with started(tmp_path, files) as node:
        before = shown(node)
        issued = root.issue_cert(HOST, common_name=HOST)
        assert files.private_key is not None and files.certificate is not None
        files.private_key.write_text(key_of(issued))
        await node.source.load_files()
        assert shown(node) == before
        assert "keeps the key that was read before" in caplog.text
        files.certificate.write_text(chain_of(issued))
        await node.source.load_files()
        assert shown(node) != before
        assert {pair.key_pem for pair in node.source.pairs()} >= {key_of(issued).encode()}


async def test_the_service_loads_files_that_change(tmp_path: Path, root: trustme.CA) -> None:
    async with started(tmp_path, write_pair(tmp_path / "own", root)) as node, trio.open_nursery() as nursery:
        before = node.row(HOST)
        await nursery.start(node.source.run)
        write_pair(tmp_path / "own", root)
        with trio.fail_after(2):
            while node.row(HOST) == before:
                await trio.sleep(0.02)
        nursery.cancel_scope.cancel()


async def test_a_pair_that_somebody_puts_into_the_keys_folder_is_served_from_then_on(
    tmp_path: Path, root: trustme.CA
) -> None:
    async with started(tmp_path) as node:
        issued = root.issue_cert("n1")
        (node.keys / KEY).write_text(key_of(issued))
        (node.keys / CERTIFICATE).write_text(chain_of(issued))
        await node.source.load_files()
        assert node.row("n1")["certificate"] == chain_of(issued)
        assert not node.row("n1")["is_self_signed"]


async def test_the_nodes_own_pair_is_shown_also_where_its_row_is_gone(tmp_path: Path) -> None:
    async with started(tmp_path) as node:
        for name in node.names():
            await node.store.remove(name, user=None)
        assert shown(node) == {node.own}


async def test_a_row_without_its_key_is_told_once_and_left_out(
    tmp_path: Path, root: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    issued = root.issue_cert(HOST)
    async with started(tmp_path) as node:
        await node.add(chain_of(issued), private_key=key_of(issued), name="mine")
        (node.keys / "mine.pem").unlink()
        for _ in range(3):
            assert shown(node) == {node.own}
        assert caplog.text.count("certificate mine is left out") == 1


async def test_a_look_notices_rows_and_keys_that_come_and_go(tmp_path: Path, root: trustme.CA) -> None:
    issued = root.issue_cert(HOST)
    async with started(tmp_path) as node:
        before = node.source.look()
        await node.add(chain_of(issued), private_key=key_of(issued), name="mine")
        with_both = node.source.look()
        (node.keys / "mine.pem").unlink()
        without_key = node.source.look()
        await node.store.remove("mine", user=None)
        assert len({before, with_both, without_key}) == 3
        assert node.source.look() == before


async def test_a_row_of_a_peer_concerns_only_who_looks_for_peers(tmp_path: Path) -> None:
    async with started(tmp_path) as node:
        before, before_for_peers = node.source.look(), node.source.look_for_peers()
        await node.put_peer("n2", None)
        assert node.source.look() == before
        assert node.source.look_for_peers() != before_for_peers
