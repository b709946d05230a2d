"""What the outcome of a check follows from: where all of it is the same, so is the outcome.

An outcome that passed before need not be found again then.  One that failed always is.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from pytest_sparsity.checking.source_files import SourceFiles
from pytest_sparsity.core.files import sha256_text
from pytest_sparsity.kernels.native.library import find_compiler
from pytest_sparsity.kernels.registry import Kernel
from pytest_sparsity.targets import host_target

#: When no process had imported a kernel to check it.
_BEGAN = time.time()
#: From these everything follows that checks do.
_CHECKING = (
    *(str(Path(__file__).with_name(name)) for name in ("worker.py", "pool.py")),
    *map(str, sorted(Path(__file__).parent.glob("ops/*.py"))),  # imported by computed names
)
#: Environment variables that compilers read themselves, and how names of others look.
_READ_BY_COMPILERS = re.compile(r"(TRITON|NUMBA|CUDA)_(?!.*(CACHE|DIR))\w+")
_VARIABLE = re.compile(r"(?!PYTEST)[A-Z][A-Z0-9_]{2,}")

Key = Mapping[str, Any]


class OutcomeKeys:
    """The keys of outcomes in one session.

    Args:
        since: when nothing had been imported for a check yet; None for when this module was.
    """

    def __init__(self, since: float | None = None) -> None:
        self._files = SourceFiles(_BEGAN if since is None else since)

    def key(self, kernel: Kernel, examples: int, seed: int) -> Key:
        """What outcomes of ``kernel`` follow from, beside the check's name, as plain data.

        Args:
            kernel: that is checked.
            examples: cases that are drawn.
            seed: of the drawing.

        Raises:
            OSError: a file is gone.
        """
        own = self._files.reached(*_starts(kernel))
        packages = frozenset().union(*(file.packages for file in own.values()))
        words = frozenset().union(*(file.words for file in own.values()))
        return {
            "examples": examples,
            "seed": seed,
            "sources": self._files.digest(*_starts(kernel)),
            "checks": self._checks,
            "machine": _machine(),
            "versions": self._common | _versions(packages),
            "compilers": _compilers(),
            "environment": _environment(words),
        }

    def changed(self, kernel: Kernel) -> Path | None:
        """A file on which an outcome depends and that was changed during this session, if any."""
        return self._files.changed(*_starts(kernel), *_CHECKING)

    @cached_property
    def _checks(self) -> str:
        return self._files.digest(*_CHECKING)

    @cached_property
    def _common(self) -> dict[str, str]:
        files = self._files.reached(*_CHECKING).values()
        packages = frozenset().union(*(file.packages for file in files))
        return {"python": platform.python_version()} | _versions(packages)


def _starts(kernel: Kernel) -> tuple[str, ...]:
    """The file of a kernel, and that of its op if it is of others."""
    return tuple(file for file in (kernel.file, kernel.definition.file) if file)


def _versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of what was installed under these names of modules."""
    return {name: _version(name) for of in packages for name in _distributions().get(of, ())}


_version = cache(importlib.metadata.version)


@cache
def _distributions() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


@cache
def _machine() -> str:
    import torch

    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device"
    return f"{host_target().fingerprint}, {cuda}"


@cache
def _compilers() -> str:
    """Of what the compilers that kernels may call say they are: 16 hex digits."""
    nvcc = shutil.which("nvcc")
    found = [find_compiler(), (nvcc,) if nvcc else None]
    told = []
    for command in filter(None, found):
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)
        told.append(done.stdout)
    return sha256_text(*told)[:16]


def _environment(words: Iterable[str]) -> dict[str, str]:
    """What environment variables are set to that the sources name, or that compilers read."""
    named = {word for word in words if _VARIABLE.fullmatch(word)}
    return {
        name: value
        for name, value in sorted(os.environ.items())
        if name in named or _READ_BY_COMPILERS.fullmatch(name)
    }
