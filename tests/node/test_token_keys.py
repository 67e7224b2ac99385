"""Key files of the token signer. Keys are made a few times only: that is what takes the time here."""

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import jwt
import pytest
import trio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from node.token_keys import PASSPHRASE, PRIVATE_KEY, PUBLIC_KEY, TokenKeys, TokenKeysUnusable, load_token_keys

ALL_FILES = (PASSPHRASE, PRIVATE_KEY, PUBLIC_KEY)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    load_token_keys(folder)
    return folder


@pytest.fixture
def keys(original: Path, tmp_path: Path) -> Path:
    """A folder with the three files, the test's own."""
    return shutil.copytree(original, tmp_path / "keys")


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ALL_FILES}


def test_the_files_are_for_the_owner_alone(keys: Path) -> None:
    assert {stat.S_IMODE((keys / name).stat().st_mode) for name in ALL_FILES} == {0o600}


def test_the_private_key_is_encrypted_with_the_passphrase_that_is_a_uuid(keys: Path) -> None:
    pem = (keys / PRIVATE_KEY).read_bytes()
    passphrase = (keys / PASSPHRASE).read_text()
    assert pem.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert str(UUID(passphrase)) == passphrase
    private = serialization.load_pem_private_key(pem, passphrase.encode())
    assert isinstance(private, rsa.RSAPrivateKey) and private.key_size == 4096


def test_a_token_signed_with_the_private_key_verifies_with_the_public_key_file(keys: Path) -> None:
    token = jwt.encode({"username": "somebody"}, load_token_keys(keys).private, algorithm="RS256")
    assert jwt.decode(token, (keys / PUBLIC_KEY).read_bytes(), algorithms=["RS256"]) == {"username": "somebody"}


def test_a_second_load_changes_nothing(keys: Path) -> None:
    before = contents(keys)
    load_token_keys(keys)
    assert contents(keys) == before


def test_when_one_file_is_missing_all_three_are_made_anew(keys: Path) -> None:
    before = contents(keys)
    (keys / PASSPHRASE).unlink()
    load_token_keys(keys)
    assert all(content != before[name] for name, content in contents(keys).items())


def test_a_crash_at_any_step_of_making_them_leaves_one_missing(
    keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the next start makes all three anew: never an old file beside a new one."""
    (keys / PRIVATE_KEY).unlink()
    states: list[set[str]] = []

    def watched(call: Callable[..., object]) -> Callable[..., object]:
        def step(*args: object, **kwargs: object) -> object:
            states.append({name for name in ALL_FILES if (keys / name).exists()})
            return call(*args, **kwargs)

        return step

    key = rsa.generate_private_key(65537, 2048)
    with monkeypatch.context() as patch:
        patch.setattr(rsa, "generate_private_key", lambda **_: key)
        for name in ("open", "fsync", "replace"):
            patch.setattr(f"node.configuration_file.os.{name}", watched(getattr(os, name)))
        patch.setattr(Path, "unlink", watched(Path.unlink))
        load_token_keys(keys)
    complete = [number for number, state in enumerate(states) if state == set(ALL_FILES)]
    assert complete == [len(states) - 2, len(states) - 1], "complete only after the last rename"


def another_passphrase(folder: Path) -> None:
    (folder / PASSPHRASE).write_text("00000000-0000-4000-8000-000000000000")


def another_public_key(folder: Path) -> None:
    pem = rsa.generate_private_key(65537, 2048).public_key()
    (folder / PUBLIC_KEY).write_bytes(
        pem.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def a_key_of_another_type(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    encryption = serialization.BestAvailableEncryption((folder / PASSPHRASE).read_bytes())
    (folder / PRIVATE_KEY).write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    )


def no_key_at_all(folder: Path) -> None:
    (folder / PUBLIC_KEY).write_text("nothing")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (another_passphrase, "cannot be read with the passphrase"),
        (another_public_key, "does not belong to"),
        (a_key_of_another_type, "not of type RSA"),
        (no_key_at_all, "holds no public key"),
    ],
)
def test_files_that_do_not_fit_together_are_refused_and_kept(
    keys: Path, changes: Callable[[Path], None], reason: str
) -> None:
    changes(keys)
    before = contents(keys)
    with pytest.raises(TokenKeysUnusable, match=reason):
        load_token_keys(keys)
    assert contents(keys) == before


async def test_all_who_wait_for_the_keys_share_one_making(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def make(folder: Path) -> object:
        made.append(folder)
        return object()

    monkeypatch.setattr("node.token_keys.load_token_keys", make)
    keys = TokenKeys(tmp_path)
    got: list[object] = []

    async def get() -> None:
        got.append(await keys.get())

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(get)
    assert len(made) == 1
    assert len(got) == 5 and len(set(map(id, got))) == 1


async def test_preparing_tells_in_the_log_why_the_keys_do_not_serve(
    keys: Path, caplog: pytest.LogCaptureFixture
) -> None:
    no_key_at_all(keys)
    await TokenKeys(keys).prepare()
    assert "holds no public key" in caplog.text
