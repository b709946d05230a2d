"""How functions are compiled by numba, and where the results are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.files import check_writable, sha256_text
from pytest_sparsity.kernels.build import folder

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile at the first call with arguments of these types, and keep the result on disk.

    No fastmath: it takes for granted that there are no NaN, and they must survive.  Serial:
    numba's threads would bring a second OpenMP beside torch's.  Division by zero is not an error.
    """
    path = cache_folder(Path(__file__).parent)
    with _kept_in(path):
        dispatcher: Any = numba.njit(nogil=True, error_model="numpy", cache=path is not None)(
            function
        )
    return dispatcher  # type: ignore[no-any-return]


@cache
def cache_folder(sources: Path) -> Path | None:
    """Where the compiled functions of a folder of sources are kept: one folder per content.

    By itself numba notices a change of the file of the function that is called, but not of
    those whose functions that one calls, and would go on with what it compiled before.

    Returns:
        None if nothing can be written there: then every process compiles for itself.
    """
    base = Path(numba.config.CACHE_DIR or folder() / "numba")  # type: ignore[attr-defined]
    files = sorted(sources.glob("_*.py"))
    path = base / sha256_text(*(file.read_text() for file in files))[:32]
    try:
        check_writable(path)
    except SparsityError:
        return None
    return path


@contextmanager
def _kept_in(path: Path | None) -> Iterator[None]:
    config: Any = numba.config
    before = config.CACHE_DIR
    config.CACHE_DIR = str(path or "")
    try:
        yield
    finally:
        config.CACHE_DIR = before
