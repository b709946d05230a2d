"""Which kernels are checked and timed: what --sparsity-kernels says."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.kernels.registry import Kernel, registered
from pytest_sparsity.plugin.state import settings_of


def kernels_of(config: pytest.Config) -> Mapping[str, Kernel]:
    """The registered kernels that a session checks and times, by id.

    Those that --sparsity-kernels names; without it those that the repository registers itself, or
    all if it registers none.  For hooks such as ``pytest_generate_tests``.

    Raises:
        SparsityError: a pattern matches none, or a setting is wrong.
    """
    known = registered()
    patterns = settings_of(config).kernels or ()
    for pattern in patterns:
        if not any(fnmatchcase(id, pattern) for id in known):
            raise SparsityError(
                f"--sparsity-kernels {pattern!r} matches no kernel; give patterns of op/name, such "
                f"as 'sparse_linear/*', of what is registered: {', '.join(known)}"
            )
    if patterns:
        return {
            id: kernel
            for id, kernel in known.items()
            if any(fnmatchcase(id, pattern) for pattern in patterns)
        }
    own = {id: kernel for id, kernel in known.items() if _is_own(kernel, config.rootpath)}
    return own or known


def _is_own(kernel: Kernel, root: Path) -> bool:
    """Whether a kernel is registered in the repository, and neither bundled nor installed."""
    from pytest_sparsity.checking.source_files import library_of

    file = Path(kernel.file).resolve()
    bundled = kernel.module.startswith("pytest_sparsity.")
    return not bundled and root.resolve() in file.parents and library_of(file) is None
