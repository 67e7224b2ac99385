import os
import subprocess
import sys
from pathlib import Path

import pytest

from node.errors import AlreadyRunning
from node.file_lock import LockBusy, is_locked, locked
from node.process_files import claimed_root, is_running, running_pid

CLAIM_AND_WAIT = """
import sys, pathlib
from node.process_files import claimed_root
with claimed_root(pathlib.Path(sys.argv[1])):
    print("claimed", flush=True)
    sys.stdin.read()
"""


def test_a_claimed_root_names_its_process_while_it_is_claimed(tmp_path: Path) -> None:
    assert not is_running(tmp_path)
    with claimed_root(tmp_path):
        assert is_running(tmp_path)
        assert (tmp_path / "hdb.pid").read_text().strip() == str(os.getpid())
        assert running_pid(tmp_path) == os.getpid()
    assert not is_running(tmp_path)
    assert not (tmp_path / "hdb.pid").exists()


def test_a_second_claim_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    with claimed_root(tmp_path), pytest.raises(AlreadyRunning) as raised, claimed_root(tmp_path):
        pass
    assert str(raised.value) == f"logmesh is already running (pid: {os.getpid()})"
    assert raised.value.exit_code == 4


def test_a_refused_claim_leaves_the_pid_file_of_the_first(tmp_path: Path) -> None:
    with claimed_root(tmp_path):
        with pytest.raises(AlreadyRunning), claimed_root(tmp_path):
            pass
        assert running_pid(tmp_path) == os.getpid()


def test_a_killed_process_leaves_a_pid_file_but_no_claim(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CLAIM_AND_WAIT, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"claimed\n"
        assert running_pid(tmp_path) == process.pid
        process.kill()
        process.wait()
    assert (tmp_path / "hdb.pid").exists()
    assert running_pid(tmp_path) is None
    with claimed_root(tmp_path):
        assert running_pid(tmp_path) == os.getpid()


@pytest.mark.parametrize("content", ["", "abc", "-1", "0", "9" * 30])
def test_a_pid_file_with_nonsense_names_nobody(content: str, tmp_path: Path) -> None:
    with claimed_root(tmp_path):
        (tmp_path / "hdb.pid").write_text(content)
        assert is_running(tmp_path)
        assert running_pid(tmp_path) is None


def test_a_lock_excludes_others_until_it_is_left(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_locked(path)
    with locked(path, wait_s=0):
        assert is_locked(path)
        with pytest.raises(LockBusy), locked(path, wait_s=0.02):
            pass
    assert not is_locked(path)
    with locked(path, wait_s=0):
        pass
