"""The structure of the package: which room may use which, and where an op is named."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import pytest_sparsity
from pytest_sparsity.reference.ops import OPS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "pytest_sparsity"

#: From the ground up: a room uses those of the floors below its own, and nothing else.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("core", "reference"),
    ("settings", "targets", "kernels"),
    ("models", "checking"),
    ("evaluation", "methods"),
    ("speed",),
    ("sweep",),
    ("reporting",),
    ("claims",),
    ("plugin", "cli"),
    ("pytest_sparsity",),  # the public modules: the root, ``fixtures``, ``testing`` and others
)
#: ``python -m pytest_sparsity`` is the command line.
DOORS = {"__main__.py"}
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
HOME = {"kernels": ROOT / "kernels", "reference": ROOT / "reference"}
#: What may name an op: its definition, its record, its kernels, and what says which kernels
#: and records there are.
OF_OPS = ("reference/", "kernels/", "pytest_sparsity/checking/ops/")


def modules() -> Iterator[Path]:
    for folder in (PACKAGE, *HOME.values()):
        for path in sorted(folder.rglob("*.py")):
            linked = folder == PACKAGE and path.relative_to(PACKAGE).parts[0] in (
                *HOME,
                "suites",
            )
            if not linked and path.name not in DOORS:
                yield path


def room_of(path: Path) -> str:
    for room, folder in HOME.items():
        if folder in path.parents:
            return room
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else "pytest_sparsity"


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and room of everything of this package that a module imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module == "pytest_sparsity":
            names = [f"pytest_sparsity.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            package, _, rest = name.partition(".")
            if package == "pytest_sparsity":
                room = rest.partition(".")[0]
                yield node.lineno, room if room in FLOOR else "pytest_sparsity"


def test_every_room_has_a_floor() -> None:
    rooms = {room_of(path) for path in modules()}
    assert rooms == set(FLOOR)


def test_rooms_use_lower_floors_only() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {room}"
        for path in modules()
        for line, room in imported(path)
        if room != room_of(path)
        and FLOOR[room] >= FLOOR[room_of(path)]
        and not (path.name == "open_ops.py" and room == "pytest_sparsity")
    ]
    assert not wrong, "\n".join(wrong)


#: A kernel's source is called like a function, and is only then launched by what it describes.
LATE = {("pytest_sparsity.kernels.cuda.source", "pytest_sparsity.kernels.cuda.device")}


def test_no_circles() -> None:
    """Of imports anywhere in a module, also of those for type checkers alone."""
    names = {}
    for path in modules():
        root = ROOT if room_of(path) in HOME else PACKAGE
        parts = path.relative_to(root).with_suffix("").parts
        names[".".join(("pytest_sparsity", *parts)).removesuffix(".__init__")] = path
    graph = {
        name: {
            full if (full := f"{node.module}.{alias.name}") in names else node.module
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.ImportFrom) and node.module
            for alias in node.names
        }
        for name, path in names.items()
    }
    for name, later in LATE:
        graph[name].remove(later)
    TopologicalSorter(graph).prepare()  # raises CycleError, which has the circle


def test_pytest_is_imported_by_the_plugin_alone() -> None:
    wrong = [
        str(path.relative_to(ROOT))
        for path in modules()
        if room_of(path) != "plugin"
        and re.search(r"^\s*(import pytest$|from pytest import)", path.read_text("utf-8"), re.M)
    ]
    assert not wrong, wrong


@pytest.mark.parametrize("op", sorted(OPS))
def test_no_op_is_named_outside_its_own_files(op: str) -> None:
    """As a string; as an import, a module of ``reference`` says what it uses."""
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in modules()
        if not str(path.relative_to(ROOT)).startswith(OF_OPS)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value == op
    ]
    assert not wrong, wrong


_FACES = ("fixtures", "hooks", "results", "speed", "testing")
#: What suites and examples may import: the modules with public names, see ``test_public.py``.
PUBLIC = {
    "pytest_sparsity",
    *(f"pytest_sparsity.{name}" for name in _FACES),
}


ROOT_NAMES = {f"pytest_sparsity.{name}" for name in pytest_sparsity.__all__}
OUTSIDE = sorted([*(ROOT / "suites").rglob("*.py"), *(ROOT / "examples").rglob("*.py")])


@pytest.mark.parametrize("path", OUTSIDE, ids=[str(path.relative_to(ROOT)) for path in OUTSIDE])
def test_suites_and_examples_use_public_names_only(path: Path) -> None:
    used = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            named = {f"{node.module}.{alias.name}" for alias in node.names}
            used |= named - ROOT_NAMES if node.module == "pytest_sparsity" else {node.module or ""}
        elif isinstance(node, ast.Import):
            used |= {alias.name for alias in node.names}
    assert {name for name in used if name.split(".")[0] == "pytest_sparsity"} <= PUBLIC
