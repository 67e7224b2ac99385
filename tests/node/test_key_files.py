"""Key files: found by what they fit, written beside what is there, and deleted only where they are nobody else's."""

from pathlib import Path

import pytest
from cryptography import x509

from node.certificate_files import Unusable, write_key
from node.certificate_issuing import new_key
from node.certificates import AUTHORITY_KEY, CERTIFICATE, KEY, ensure_certificates
from node.key_files import KeyFiles, sanitized_name


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    folder = tmp_path / "keys"
    ensure_certificates(folder, node="n1")
    return folder


def own_leaf(keys: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((keys / CERTIFICATE).read_bytes())


@pytest.mark.parametrize(
    ("name", "expected"),
    [("my-cert", "my-cert"), ("a b/c", "a-b-c"), ("../../etc/x.y", "..-..-etc-x.y"), ("é_*", "---"), ("A.9", "A.9")],
)
def test_a_name_becomes_harmless(name: str, expected: str) -> None:
    assert sanitized_name(name) == expected


def test_a_key_is_found_among_other_files_by_the_public_key_that_it_belongs_to(keys: Path) -> None:
    (keys / "0.pem").write_text("no key at all")
    assert KeyFiles(keys).find_for(own_leaf(keys).public_key()) == KEY
    assert KeyFiles(keys).find_for(new_key().public_key()) is None


def test_a_key_outside_the_folder_is_found_where_configuration_names_it(keys: Path, tmp_path: Path) -> None:
    key, path = new_key(), tmp_path / "elsewhere.pem"
    write_key(path, key)
    assert KeyFiles(keys).find_for(key.public_key()) is None
    assert KeyFiles(keys, [path]).find_for(key.public_key()) == "elsewhere.pem"


def test_of_two_keys_of_one_name_the_one_that_fits_is_read(keys: Path, tmp_path: Path) -> None:
    write_key(tmp_path / KEY, new_key())
    assert KeyFiles(keys, [tmp_path / KEY]).read_for(KEY, own_leaf(keys)) == (keys / KEY).read_bytes()


@pytest.mark.parametrize("name", ["", "..", "../keys/privateKey.pem", "none.pem"])
def test_what_is_no_file_of_the_folder_is_not_read(keys: Path, name: str) -> None:
    with pytest.raises(Unusable, match="does not exist"):
        KeyFiles(keys).read_for(name, own_leaf(keys))


@pytest.mark.parametrize("name", ["privateKey", "ca", "../keys/ca", "x" * 300])
def test_a_new_key_overwrites_nothing(keys: Path, name: str) -> None:
    files = KeyFiles(keys)
    before = {path: path.read_bytes() for path in keys.iterdir()}
    stored = [files.store(name, new_key()) for _ in range(3)]
    assert len(set(stored)) == 3
    assert {path: path.read_bytes() for path in before} == before
    assert {(keys / one).stat().st_mode & 0o777 for one in stored} == {0o600}
    assert len(list(keys.iterdir())) == len(before) + 3


def test_the_nodes_own_keys_and_those_that_configuration_names_are_never_deleted(keys: Path, tmp_path: Path) -> None:
    write_key(keys / "named.pem", new_key())
    write_key(tmp_path / "outside.pem", new_key())
    files = KeyFiles(keys, [keys / "named.pem", tmp_path / "outside.pem"])
    for name in (KEY, AUTHORITY_KEY, "named.pem", "outside.pem", "../outside.pem"):
        files.remove(name)
    assert all((keys / name).exists() for name in (KEY, AUTHORITY_KEY, "named.pem"))
    assert (tmp_path / "outside.pem").exists()


def test_a_key_that_cannot_be_deleted_is_told_in_the_log(keys: Path, caplog: pytest.LogCaptureFixture) -> None:
    (keys / "folder.pem").mkdir()
    KeyFiles(keys).remove("folder.pem")
    assert "could not be deleted" in caplog.text


def test_the_state_changes_with_every_key(keys: Path) -> None:
    files = KeyFiles(keys)
    seen = [files.state()]
    stored = files.store("a", new_key())
    seen.append(files.state())
    write_key(keys / stored, new_key())
    seen.append(files.state())
    files.remove(stored)
    assert len(set(seen)) == 3 and files.state() == seen[0]
