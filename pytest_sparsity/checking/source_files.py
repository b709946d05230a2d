"""The files that an outcome follows from: a source, what it imports of its own, what it names.

Found by reading, nothing is imported.  What is installed beside (torch, another library) is known
by its version instead.  What cannot be seen so: modules whose names are computed, and files that
are named elsewhere than in a string of the source beside which they lie.
"""

from __future__ import annotations

import ast
import contextlib
import glob
import importlib.util
import os
import re
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pytest_sparsity.core.files import sha256_text

_INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"\n]+)"', re.M)
_PACKAGE = "__init__.py"
#: Longer strings are messages, not names of files or of variables.
_LONGEST = 100


@dataclass(frozen=True)
class SourceFile:
    """One file as it was when it was read.

    Attributes:
        digest: of its content.
        changed: when it last changed in any way, by the file system's clock: ns since the epoch.
        links: the files that it imports or names.
        packages: names of installed packages that it imports.
        words: its short strings; some are names of environment variables.
    """

    digest: str
    changed: int
    links: tuple[Path, ...] = ()
    packages: frozenset[str] = frozenset()
    words: frozenset[str] = frozenset()


class SourceFiles:
    """Files and what they lead to, each read once.

    Args:
        since: seconds since the epoch at which no process had imported any of them yet.
    """

    def __init__(self, since: float) -> None:
        self._since = int(since * 1e9)
        self._read: dict[Path, SourceFile] = {}

    def reached(self, *starts: str | Path) -> dict[Path, SourceFile]:
        """The files ``starts``, what they import or name, what that does, and so on.

        Raises:
            OSError: one of them is gone.
        """
        found: dict[Path, SourceFile] = {}
        more = [Path(start).resolve() for start in starts]
        while more:
            path = more.pop()
            if path not in found:
                found[path] = self._file(path)
                more += found[path].links
        return found

    def digest(self, *starts: str | Path) -> str:
        """Of the contents of all that is reached, wherever it lies: 16 hex digits.

        Raises:
            OSError: as :meth:`reached`.
        """
        reached = self.reached(*starts).items()
        return sha256_text(*sorted(f"{path.name}:{file.digest}" for path, file in reached))[:16]

    def changed(self, *starts: str | Path) -> Path | None:
        """A file that is reached and was changed since nothing was imported; None if none was.

        What ran may be another text than was read then, and nothing tells which.
        """
        try:
            reached = self.reached(*starts)
        except OSError as error:
            return Path(error.filename)
        for path, file in reached.items():
            if file.changed >= self._since or _changed(path) != file.changed:
                return path
        return None

    def _file(self, path: Path) -> SourceFile:
        if path not in self._read:
            # Before it is read: what changes meanwhile has another time afterwards.
            changed = os.stat(path).st_ctime_ns
            self._read[path] = _read(path, path.read_bytes(), changed)
        return self._read[path]


def _changed(path: Path) -> int:
    try:
        return os.stat(path).st_ctime_ns
    except OSError:
        return -1


def _read(path: Path, content: bytes, changed: int) -> SourceFile:
    text = content.decode("utf-8", errors="replace")
    digest = sha256_text(content.decode("latin-1"))
    if path.suffix != ".py":
        included = _existing(path.parent / name for name in _INCLUDE.findall(text))
        return SourceFile(digest, changed, tuple(included))
    try:
        nodes = _nodes(ast.parse(text))
    except SyntaxError:  # importing it tells
        return SourceFile(digest, changed)
    links = dict.fromkeys(_around(path))
    packages = set()
    for level, name in _imported(nodes):
        for place in _places(level, name, path.parent):
            if _is_own(place, path):
                links[place] = None
            else:
                packages.add(name.partition(".")[0])
    words = frozenset(_words(nodes))
    links |= dict.fromkeys(_named(words, path.parent))
    return SourceFile(digest, changed, tuple(links), frozenset(packages), words)


def _existing(paths: Iterable[Path]) -> Iterator[Path]:
    return (path.resolve() for path in paths if path.is_file())


def _around(path: Path) -> Iterator[Path]:
    """What runs before a module of a package."""
    for folder in path.parents:
        if not (folder / _PACKAGE).is_file():
            return
        if (found := (folder / _PACKAGE).resolve()) != path:
            yield found


# Imports


def _imported(nodes: Iterable[ast.AST]) -> Iterator[tuple[int, str]]:
    """Levels (of relative imports, else 0) and dotted names of modules, and of what may be one."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            homes = [node.module] if node.module else []
            for alias in node.names:
                yield node.level, ".".join([*homes, alias.name])
        elif isinstance(node, ast.Call):
            called = getattr(node.func, "attr", getattr(node.func, "id", None))
            first = node.args[0] if node.args else None
            if called == "import_module" and isinstance(first, ast.Constant):
                yield 0, str(first.value)


def _nodes(tree: ast.AST) -> list[ast.AST]:
    """All that runs: without what is for type checkers."""
    found, more = [], [tree]
    while more:
        node = more.pop()
        found.append(node)
        if isinstance(node, ast.If) and _for_types(node.test):
            more += node.orelse
        else:
            more += ast.iter_child_nodes(node)
    return found


def _for_types(test: ast.expr) -> bool:
    return "TYPE_CHECKING" in (getattr(test, "id", None), getattr(test, "attr", None))


def _places(level: int, name: str, folder: Path) -> Iterator[Path]:
    """The files that run when ``name`` is imported by a module in ``folder``."""
    parts = name.split(".")
    if level:
        homes = [[folder, *folder.parents][min(level - 1, len(folder.parents))]]
    else:
        homes = list(_homes(parts.pop(0), folder))
    for home in homes:
        yield from _existing(_along(home, parts))


def _along(home: Path, parts: Sequence[str]) -> Iterator[Path]:
    if home.suffix:  # a file
        yield home
        return
    yield home / _PACKAGE
    if parts:
        yield from home.glob(f"{glob.escape(parts[0])}.*.so")
        yield home / f"{parts[0]}.py"
        if (home / parts[0]).is_dir():
            yield from _along(home / parts[0], parts[1:])


def _homes(top: str, folder: Path) -> Iterator[Path]:
    """The file, or the folders, of a top-level module."""
    if top in sys.stdlib_module_names:
        return
    spec = getattr(sys.modules.get(top), "__spec__", None)
    if spec is None:
        with contextlib.suppress(ImportError, ValueError):
            spec = importlib.util.find_spec(top)
    if spec is not None and spec.submodule_search_locations is not None:
        yield from map(Path, spec.submodule_search_locations)
    elif spec is not None and spec.origin is not None:
        yield Path(spec.origin)
    # Files that pytest imports by path find what is beside them, which may be called like others.
    if (beside := folder / f"{top}.py").is_file():
        yield beside
    elif (folder / top / _PACKAGE).is_file():
        yield folder / top


def _is_own(place: Path, path: Path) -> bool:
    """Whether a file is no installed one, or is installed with ``path``."""
    home = library_of(place)
    if home is None:
        return True
    return (
        home in path.parents
        and place.relative_to(home).parts[0] == (path.relative_to(home).parts[0])
    )


def library_of(path: Path) -> Path | None:
    """The folder of installed packages that a file lies in; None if it is in none."""
    return next((folder for folder in _libraries() if folder in path.parents), None)


@cache
def _libraries() -> Sequence[Path]:
    """Folders of installed packages, inner ones first."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    found = {*map(sysconfig.get_path, names), *site.getsitepackages(), site.getusersitepackages()}
    return sorted({Path(name).resolve() for name in found}, key=lambda path: -len(path.parts))


# Names of files


def _words(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and 0 < len(node.value) <= _LONGEST
            and node.value.isprintable()
        ):
            yield node.value


def _named(words: Iterable[str], folder: Path) -> Iterator[Path]:
    """Files beside a source, or in a folder beside it that is named as well."""
    words = sorted(words)
    files = [word for word in words if Path(word).suffix]
    folders = [word for word in words if word not in files and (folder / word).is_dir()]
    yield from _existing(folder / place / name for place in (".", *folders) for name in files)
