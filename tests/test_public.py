"""The public interface: what is in it, and that it needs nothing that is not."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import textwrap
import typing
from collections.abc import Iterator
from dataclasses import is_dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pytest_sparsity.core.moved import COMMANDS, NAMES
from pytest_sparsity.plugin import fixtures, hookspec

#: The public modules; what is in no ``__all__`` of these is private.
FACES = ("", ".fixtures", ".hooks", ".results", ".speed", ".testing")
PUBLIC = tuple(f"pytest_sparsity{face}" for face in FACES)
ROOT = Path(__file__).parents[1]


@cache
def tree(module: str) -> ast.Module:
    file = import_module(module).__file__
    assert file is not None
    return ast.parse(Path(file).read_text(encoding="utf-8"))


@cache
def imports(module: str) -> dict[str, tuple[str, str]]:
    """Name in a module to where it is imported from, also where only type checkers import it."""
    return {
        alias.asname or alias.name: (node.module or "", alias.name)
        for node in ast.walk(tree(module))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


@cache
def aliases(module: str) -> dict[str, ast.expr]:
    """Name in a module to the expression that it stands for, such as a type's other name."""
    return {
        target.id: node.value
        for node in tree(module).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def defined(module: str, name: str) -> tuple[str, str]:
    """Where a name of a module is defined, through all modules that only import it."""
    while module.startswith("pytest_sparsity") and name in imports(module):
        module, name = imports(module)[name]
    return module, name


@cache
def known() -> frozenset[tuple[str, str]]:
    """Where everything that is public is defined."""
    names = ((module, name) for module in PUBLIC for name in import_module(module).__all__)
    return frozenset(defined(module, name) for module, name in names)


def annotations(thing: Any) -> Iterator[tuple[str, str, str]]:
    """Module, place and text of what annotates a function, or a class with its public members."""
    if inspect.isfunction(thing):
        for name, text in thing.__annotations__.items():
            yield thing.__module__, f"{thing.__qualname__}({name})", str(text)
    if not inspect.isclass(thing) or not thing.__module__.startswith("pytest_sparsity"):
        return
    for base in thing.__bases__:
        yield from annotations(base)
    for name, text in vars(thing).get("__annotations__", {}).items():
        if not name.startswith("_"):
            yield thing.__module__, f"{thing.__name__}.{name}", str(text)
    for name, member in vars(thing).items():
        if name.startswith("_") and name not in ("__call__", "__iter__"):
            continue
        for attribute in ("fget", "func", "__func__"):  # of properties and class methods
            member = getattr(member, attribute, member)
        member = inspect.unwrap(member) if callable(member) else member
        if getattr(member, "__qualname__", "").startswith(f"{thing.__name__}."):
            yield from annotations(member)


def private(module: str, expression: ast.AST) -> Iterator[str]:
    """The names in an annotation that nobody may import."""
    for node in ast.walk(expression):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if node.value.isidentifier() and not isinstance(expression, ast.Subscript):
                yield from private(module, ast.Name(node.value))
            continue
        if not isinstance(node, ast.Name):
            continue
        home, name = defined(module, node.id)
        if not home.startswith("pytest_sparsity") or (home, name) in known():
            continue
        found = getattr(import_module(home), name, None)
        if inspect.isclass(found) and found.__module__ == home:
            yield f"{home}.{name}"
        elif name in aliases(home) and not isinstance(found, typing.TypeVar):
            yield from private(home, aliases(home)[name])


def hidden(thing: Any) -> list[str]:
    """What the annotations of ``thing`` name and nobody may import, with the place."""
    return [
        f"{place}: {name}"
        for module, place, text in annotations(thing)
        for name in private(module, ast.parse(text, mode="eval").body)
    ]


@pytest.mark.parametrize("module", PUBLIC)
def test_what_public_names_take_and_give_is_public(module: str) -> None:
    things = [getattr(import_module(module), name) for name in import_module(module).__all__]
    functions = [
        f
        for thing in things
        if isinstance(thing, ModuleType)
        for name, f in vars(thing).items()
        if inspect.isfunction(f) and f.__module__ == thing.__name__ and not name.startswith("_")
    ]
    assert not [each for thing in (*things, *functions) for each in hidden(thing)]


def unannotated(thing: type) -> Iterator[str]:
    """Public attributes that ``__init__`` sets and the class does not annotate."""
    annotated = {name for base in thing.__mro__ for name in vars(base).get("__annotations__", {})}
    if not inspect.isfunction(init := vars(thing).get("__init__")) or is_dataclass(thing):
        return
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(init)))):
        match node:
            case ast.Attribute(value=ast.Name("self"), attr=name, ctx=ast.Store()):
                if not name.startswith("_") and name not in annotated:
                    yield f"{thing.__name__}.{name}"


def test_attributes_of_public_classes_are_annotated() -> None:
    """So that the test above sees their types, and readers do."""
    things = {getattr(import_module(m), name) for m in PUBLIC for name in import_module(m).__all__
              if isinstance(getattr(import_module(m), name), type)}  # fmt: skip
    ours = (thing for thing in things if thing.__module__.startswith("pytest_sparsity"))
    assert not [each for thing in ours for each in unannotated(thing)]


def test_what_fixtures_give_is_public() -> None:
    names = [
        function
        for node in tree(fixtures.__name__).body
        if isinstance(node, ast.FunctionDef) and not (function := node.name).startswith("_")
    ]
    assert "degradation" in names
    wrong = []
    for node in tree(fixtures.__name__).body:
        if isinstance(node, ast.FunctionDef) and node.name in names:
            assert node.returns is not None
            wrong += [f"{node.name}: {each}" for each in private(fixtures.__name__, node.returns)]
    assert not wrong


def test_what_hooks_take_and_give_is_public() -> None:
    hooks = [f for name, f in vars(hookspec).items() if name.startswith("pytest_sparsity_")]
    assert len(hooks) > 1
    assert not [each for hook in hooks for each in hidden(hook)]


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_are_there_without_a_warning(module: str) -> None:
    program = f"import {module} as m; [getattr(m, name) for name in m.__all__]"
    words = [sys.executable, "-W", "error::DeprecationWarning:pytest_sparsity", "-c", program]
    subprocess.run(words, check=True)


@pytest.mark.parametrize("module", PUBLIC)
def test_type_checkers_see_what_is_found(module: str) -> None:
    """Where names are found when they are asked for, they are listed twice."""
    found = import_module(module)
    for name in found.__all__:
        home = getattr(found, "_HOME", {}).get(name)
        if home is not None:
            assert imports(module)[name] == (f"pytest_sparsity.{home}", name)


MOVED = [(module, old, new) for module, names in NAMES.items() for old, new in names.items()]


@pytest.mark.parametrize(("module", "old", "new"), MOVED)
def test_a_moved_name_tells_the_new_one_once(module: str, old: str, new: str) -> None:
    assert old not in import_module(module).__all__
    home, _, name = new.rpartition(".")
    assert home in PUBLIC
    namespace: dict[str, Any] = {}
    with pytest.warns(DeprecationWarning, match=rf"^{module}.{old} is {new} now") as told:
        exec(f"from {module} import {old}", namespace)
    assert len(told) == 1
    assert namespace[old] is getattr(import_module(home), name)


def test_the_root_is_small() -> None:
    assert len(import_module("pytest_sparsity").__all__) < 18


@pytest.mark.parametrize("module", PUBLIC)
def test_no_public_name_is_that_of_a_module_inside(module: str) -> None:
    """Once it is imported, the module would stand there in place of what is public."""
    found = import_module(module)
    assert found.__file__ is not None
    if Path(found.__file__).name == "__init__.py":
        inside = {path.stem for path in Path(found.__file__).parent.iterdir()}
        assert not inside & set(found.__all__)


#: Groups of entry points, and commands of before, which pages name as well.
NO_MODULES = {"pytest_sparsity.ops", *(f"pytest_sparsity.{old}" for old in COMMANDS)}
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_pages_name_what_is_there(page: Path) -> None:
    named = set(re.findall(r"pytest_sparsity(?:\.[a-zA-Z_]\w*)+", page.read_text("utf-8")))
    for dotted in named - NO_MODULES:
        module, _, name = dotted.rpartition(".")
        assert name in getattr(import_module(module), "__all__", ()) or find_spec(dotted), dotted
