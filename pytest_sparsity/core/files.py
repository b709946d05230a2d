"""Files that survive interruption: atomic writes, locked caches, content hashes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pytest_sparsity.core.errors import NotWritten, SparsityError

T = TypeVar("T")


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    with path.open("rb") as stream:
        digest = hashlib.sha256()
        while chunk := stream.read(1 << 22):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_text(*parts: str) -> str:
    """Hex SHA-256 of text parts; the parts are length-prefixed, so no two lists collide."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """``object_pairs_hook`` of :func:`json.loads` for what users write: JSON lets a key repeat.

    Raises:
        ValueError: a key stands twice, so that one of its values would be lost.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {repeated!r} stands twice in one object")
    return found


#: What things of one's own may be called: the name stands in options, ids of tests and paths.
OWN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def atomic_write(path: Path, content: str | bytes) -> None:
    """Write ``content`` to ``path`` so that a reader sees the old file or the new one, whole.

    Raises:
        NotWritten: the folder cannot be written or the disk is full; the old file is kept.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise cannot_write(path, error) from error


def append_line(path: Path, line: str) -> None:
    """Append ``line`` to a file that several processes write, whole or not at all.

    A writer that was killed leaves at most one incomplete last line, which the next one cuts off;
    readers must ignore it.

    Raises:
        NotWritten: it cannot be written; what was there before is kept.
    """
    with locked(path.parent / ".locks" / f"{path.stem}.lock"):
        try:
            # Unbuffered: a buffer would write its rest, on closing, after the truncation.
            with path.open("ab", buffering=0) as stream:
                start = _end_of_last_line(path)
                os.truncate(path, start)
                try:
                    rest = memoryview((line + "\n").encode())
                    while rest:
                        rest = rest[stream.write(rest) :]
                    os.fsync(stream.fileno())
                except OSError:
                    with contextlib.suppress(OSError):
                        os.truncate(path, start)
                    raise
        except OSError as error:
            raise cannot_write(path, error) from error


def read_lines(
    path: Path, parse: Callable[[bytes], T], what: str, *, missing: str, damaged: str
) -> list[T]:
    """The lines of a file that :func:`append_line` wrote, without one that a crash cut off.

    Args:
        path: the file.
        parse: reads a line; raises KeyError, TypeError or ValueError if it is something else.
        what: a line holds, for the message: ``trial``.
        missing: what to do if there is no file.
        damaged: what to do if a line cannot be read.

    Raises:
        SparsityError: the file or one of its lines cannot be read.
    """
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except OSError as error:
        raise SparsityError(f"cannot read {path}: {error.strerror}; {missing}") from error
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(parse(line))
        except (KeyError, TypeError, ValueError) as error:
            raise SparsityError(
                f"{path} line {number} holds no {what} of this version ({error}); {damaged}"
            ) from error
    return found


def cannot_write(path: Path, error: OSError) -> NotWritten:
    """The sentence a user reads when ``path`` cannot be written."""
    return NotWritten(
        f"cannot write {path}: {error.strerror or error}; free some space, fix its permissions, "
        "or choose another place with --sparsity-report or --sparsity-cache"
    )


def check_writable(folder: Path) -> None:
    """Make ``folder`` if it is missing, and prove that a file can be put there.

    Raises:
        NotWritten: it cannot.
    """
    probe = folder / f".probe-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise cannot_write(folder, error) from error


class InUse(Exception):
    """Another process holds a lock."""


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock file ``path`` (created if missing) so that one process at a time goes on.

    Raises:
        NotWritten: the lock file cannot be created.
        InUse: another process holds it, and ``wait`` is False.
    """
    from filelock import FileLock, Timeout

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(str(path))
        lock.acquire(blocking=wait)
    except Timeout:
        raise InUse(path) from None
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        yield
    finally:
        lock.release()


def default_cache() -> Path:
    """The user's cache folder for models, calibrations and vectors."""
    from platformdirs import user_cache_path

    return user_cache_path("pytest-sparsity")


def _end_of_last_line(path: Path) -> int:
    """Where an incomplete last line begins: the size of the file if there is none."""
    end = path.stat().st_size
    with path.open("rb") as stream:
        while end:
            start = max(0, end - (1 << 16))
            stream.seek(start)
            if (found := stream.read(end - start).rfind(b"\n")) >= 0:
                return start + found + 1
            end = start
    return 0


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
