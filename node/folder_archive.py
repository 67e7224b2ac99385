"""A component's folder as the archive that ``deploy_component`` takes: a gzipped tar, paths relative to the folder.

Left out is what a deploy makes again (dependencies, caches). Links are followed, but never out of the folder: a link to
the home folder of whoever deploys must not publish it.
"""

import gzip
import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

PACKED_BYTES_MAX = 700 * 1024 * 1024
"""A request body ends at 1 GiB, and base64 makes four bytes of three."""
_MEMBERS_MAX = 200_000
_LEFT_OUT = frozenset({"node_modules", ".python_modules", "__pycache__", ".venv"})
_LEFT_OUT_PATHS = (Path("cache/webpack"),)


def pack_folder(folder: Path) -> bytes:
    """The archive of ``folder``. Raises ``ValueError`` for a link that leaves it, and for too much to send."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w|", dereference=True) as archive,
    ):
        for count, path in enumerate(_members(folder)):
            if count >= _MEMBERS_MAX or packed.tell() > PACKED_BYTES_MAX:
                raise ValueError(f"{folder} is too large to deploy from here")
            archive.add(path, arcname=str(path.relative_to(folder)), recursive=False, filter=_anonymous)
    return packed.getvalue()


def _members(folder: Path) -> Iterator[Path]:
    """Folders and regular files to pack, parents first, in a stable order."""
    inside = folder.resolve()
    for parent, folders, files in os.walk(folder, followlinks=False):
        folders[:] = sorted(name for name in folders if not _is_left_out(Path(parent, name), folder))
        for name in sorted([*folders, *files]):
            path = Path(parent, name)
            if path.is_symlink() and not path.resolve().is_relative_to(inside):
                raise ValueError(f"{path} is a link that leads out of {folder}")
            if path.is_file() or (path.is_dir() and not path.is_symlink()):
                yield path


def _is_left_out(path: Path, folder: Path) -> bool:
    return path.name in _LEFT_OUT or path.relative_to(folder) in _LEFT_OUT_PATHS


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    if member.isdir():
        member.mode = 0o755
    return member
