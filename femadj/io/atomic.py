"""Files that appear under their names when they are complete, or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from femadj.errors import FemadjError, MeshFileError


@contextlib.contextmanager
def complete_file(path: str | os.PathLike[str], error: type[FemadjError] = MeshFileError) -> Iterator[Path]:
    """Name of a new file to write in place of ``path``; it takes that name once the block is through.

    The file has a random name in the same folder and is made before anything is written, so that no link that somebody
    else put there is followed. Whatever goes wrong, nothing is left behind, and a file that was there before stays as
    it was. Missing folders are made. A link under the name itself is replaced, not followed.

    Raises
    ------
    FemadjError
        Of the type ``error``, where the system does not let the file be written.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        partial = target.with_name(f".{secrets.token_hex(8)}.part{target.suffix}")
        mode = _mode(target)
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0), mode))
        try:
            yield partial
            _flush(partial)
            partial.replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise
    except OSError as cause:
        if isinstance(cause, FemadjError):
            raise
        raise error(f"{target} cannot be written: {cause.strerror or cause}") from cause
    except ValueError as cause:
        if "null byte" not in str(cause):
            raise
        raise error(f"{str(target)!r} is no name that a file can have") from cause


def _mode(target: Path) -> int:
    """Permissions of the file that is replaced; those that new files get where there is none."""
    try:
        return target.lstat().st_mode & 0o777 if not target.is_symlink() else 0o666
    except OSError:
        return 0o666


def _flush(path: Path) -> None:
    """Have the contents on the disk before the name points to them; a full disk is found here at the latest."""
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
