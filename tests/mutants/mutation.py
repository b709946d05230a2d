"""Wrong kernels made of right ones: one replacement in the source, registered under another name.

What the replacement can reach is copied and imported as a package of its own; everything else is
the original, so that what numba compiled of it is found in its cache.  Copies lie in a folder named
by their content, and are written once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from pytest_sparsity.core.files import atomic_write, sha256_text
from pytest_sparsity.kernels import build, registry

PACKAGE = "pytest_sparsity.kernels"
SOURCES = Path(registry.__file__).parent
#: Right kernels that are not in the package: a folder of them is a backend here.
BESIDE = Path(__file__).parent

_CPP, _FLAGS = "native/kernels.cpp", "native/library.py"
_IMPORT = re.compile(rf"^( *)from {re.escape(PACKAGE)}\.([\w.]+) import (\(|.+)$", re.M)

_REGISTERING = '''\
"""Registers the mutated kernel of this package, and leaves the others alone."""

from pytest_sparsity.kernels import registry
from pytest_sparsity.kernels.contract import Contract  # declared of some


def sparse_kernel(*, op, backend, name=None, **declared):
    if f"{{op}}/{{name or backend}}" != {kernel!r}:
        return lambda function: function
    declared |= {declared!r}
    return registry.sparse_kernel(op=op, backend=backend, name={name!r}, **declared)
'''

_ENTRY = '''\
"""Imports the package around it, which nothing on sys.path leads to."""

import importlib.util
import sys
from pathlib import Path

if {package!r} not in sys.modules:
    file = Path(__file__).with_name("__init__.py")
    spec = importlib.util.spec_from_file_location({package!r}, file)
    sys.modules[spec.name] = importlib.util.module_from_spec(spec)
importlib.import_module({module!r})
'''


@dataclass(frozen=True, eq=False)
class Mutant:
    """A kernel with one bug.

    Attributes:
        name: what the bug is, in a few words with dashes.
        kernel: id of the right kernel, as ``sparse_linear/triton``.
        kind: number of its class of bugs in ``classes.CLASSES``, or the name of another class.
        file: that is changed, relative to ``kernels/``, or to this folder.
        old: what is replaced; must be there exactly once.
        new: what by.
        what: the change, in words.
        killer: a check that finds it: the one to run first.
        declared: instead of what the right kernel declares: fewer dtypes or rows, where every one
            takes a compiler seconds.
        decisive: the group of ``switched_off.GROUPS`` without whose cases it survives.
    """

    name: str
    kernel: str
    kind: int | str
    file: str
    old: str
    new: str
    what: str
    killer: str
    declared: Mapping[str, Any] = field(default_factory=dict)
    decisive: str = ""

    @property
    def op(self) -> str:
        return self.kernel.partition("/")[0]

    @property
    def backend(self) -> str:
        return self.file.partition("/")[0]

    @property
    def id(self) -> str:
        """Under which the mutant is registered."""
        return f"{self.op}/mutant-{self.name}"

    def module(self) -> str:
        """The file to import so that the mutant is registered; written if it is missing.

        Raises:
            ValueError: as :attr:`source`.
        """
        copied, package = self._copied, f"mutant_{self.source}"
        folder = build.folder() / "mutants" / package
        modules = {_dotted(name) for name in copied}
        for name, text in copied.items():
            _write(folder / name, _redirected(text, package, modules))
        start = folder / "mutant.py"
        _write(start, _ENTRY.format(package=package, module=f"{package}.{_dotted(self._entry)}"))
        return str(start)

    @cached_property
    def source(self) -> str:
        """A hash of all that the replacement can reach.

        Raises:
            ValueError: ``old`` is not in the file exactly once: the kernel was rewritten, and the
                mutant is to be rewritten or dropped.
        """
        copied = self._copied
        return sha256_text(*copied, *copied.values())[:12]

    @property
    def _entry(self) -> str:
        return f"{self.backend}/{self.op}.py"

    @cached_property
    def _copied(self) -> dict[str, str]:
        """The sources of its package."""
        sources = dict(_sources(self.backend))
        found = sources[self.file].count(self.old)
        if found != 1:
            raise ValueError(f"{self.name}: {found} times in kernels/{self.file}: {self.old!r}")
        sources[self.file] = sources[self.file].replace(self.old, self.new)
        if self.file == _CPP:  # a mutant need not be fast
            sources[_FLAGS] = sources[_FLAGS].replace('"-O3"', '"-O1"')
        reached = _reached(sources, self.file) | {self._entry}
        reached |= {
            name
            for name in sources
            if not name.endswith(".py")
            and any(_mentions(sources[other], name) for other in reached)
        }
        copied = {name: sources[name] for name in sorted(reached)}
        copied |= {f"{Path(name).parent}/__init__.py": "" for name in (".", *copied)}
        copied["registering.py"] = _REGISTERING.format(
            kernel=self.kernel, name=self.id.partition("/")[2], declared=dict(self.declared)
        )
        return copied


@cache
def _sources(backend: str) -> dict[str, str]:
    """The files of a backend by their place in ``kernels/``, or here."""
    root = SOURCES if (SOURCES / backend).is_dir() else BESIDE
    places = {path: path.relative_to(root) for path in (root / backend).rglob("*.*")}
    kept = (".py", ".cpp", ".cu", ".h")
    return {str(at): path.read_text() for path, at in places.items() if path.suffix in kept}


def _reached(sources: dict[str, str], changed: str) -> set[str]:
    """``changed``, what imports or reads it, what imports that, and so on."""
    reached, more = set[str](), {changed}
    while more:
        reached |= more
        more = {
            name
            for name, text in sources.items()
            if name not in reached and any(_mentions(text, other) for other in reached)
        }
    return reached


def _mentions(text: str, other: str) -> bool:
    if not other.endswith(".py"):
        return f'"{Path(other).name}"' in text
    return any(
        _dotted(other) in (home, f"{home}.{name}")
        for _, home, names in _IMPORT.findall(text)
        for name in names.split(", ")
    )


def _redirected(text: str, package: str, modules: set[str]) -> str:
    """``text`` with imports of these modules leading to ``package``."""

    def redirect(found: re.Match[str]) -> str:
        indent, home, names = found.groups()
        if home == "registry" and names == "sparse_kernel":
            return f"{indent}from {package}.registering import sparse_kernel"
        lines = []
        for name in names.split(", "):
            copied = {home, f"{home}.{name}"} & modules
            lines.append(f"{indent}from {package if copied else PACKAGE}.{home} import {name}")
        return "\n".join(lines)

    return _IMPORT.sub(redirect, text)


def _dotted(name: str) -> str:
    return name.removesuffix(".py").replace("/", ".")


def _write(path: Path, text: str) -> None:
    """Once: numba compiles a file anew that is younger than what it compiled."""
    if not path.exists():
        atomic_write(path, text)
