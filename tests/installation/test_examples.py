"""The packages in ``examples/`` need nothing but public names and the wheel, as others' would."""

from __future__ import annotations

import ast
import importlib
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from environments import ROOT, installed, run

EXAMPLES = sorted(path.parent for path in (ROOT / "examples").glob("*/pyproject.toml"))
_FACES = ("fixtures", "hooks", "results", "speed", "testing")
PUBLIC = ("pytest_sparsity", *(f"pytest_sparsity.{name}" for name in _FACES))


def imported(path: Path) -> Iterator[tuple[str, str | None]]:
    """The modules that a file imports, and the names it takes from them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.module is not None, f"{path}: imports relative to its package"
            yield from ((node.module, alias.name) for alias in node.names)


def test_there_are_two() -> None:
    assert [example.name for example in EXAMPLES] == ["block_sparse", "own_model"]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_only_public_names_are_imported(example: Path) -> None:
    files = [path for path in example.rglob("*.py") if "build" not in path.parts]
    found = {
        (module, name)
        for path in files
        for module, name in imported(path)
        if module.split(".")[0] == "pytest_sparsity"
    }
    assert found
    for module, name in sorted(found, key=str):
        assert module in PUBLIC, f"{module} is private"
        assert name in importlib.import_module(module).__all__, f"{module}.{name} is private"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copies of the repository and of the examples, outside of the repository."""
    folder = tmp_path_factory.mktemp("sources")
    unwanted = shutil.ignore_patterns(
        ".*", "__pycache__", "*.egg-info", "build", "dist", "sparsity-report", "tests", "examples"
    )
    shutil.copytree(ROOT, folder / "pytest-sparsity", symlinks=True, ignore=unwanted)
    unwanted = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "sparsity-report")
    for example in EXAMPLES:
        shutil.copytree(example, folder / example.name, ignore=unwanted)
    return folder


@pytest.fixture(scope="module")
def wheels(sources: Path) -> dict[str, Path]:
    """By folder, the wheels built from them; no network: the tools are those installed here."""
    found = {}
    for source in ("pytest-sparsity", *(example.name for example in EXAMPLES)):
        out = sources / "wheels" / source
        run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index",
            "--no-build-isolation", "--wheel-dir", out, sources / source, cwd=sources)  # fmt: skip
        (found[source],) = out.glob("*.whl")
    return found


WHERE = "import pytest_sparsity as p, {package} as e; print(p.__file__); print(e.__file__)"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "runs"),
    [
        ("block_sparse", {(): 46}),
        ("own_model", {(): 11, ("--sparsity-sweep", "tests"): 26}),
    ],
)
def test_example_passes_its_own_tests(
    name: str,
    runs: dict[tuple[str, ...], int],
    sources: Path,
    wheels: dict[str, Path],
    tmp_path: Path,
) -> None:
    if name == "block_sparse":
        pytest.importorskip("triton")
    python = installed(tmp_path / "environment", wheels["pytest-sparsity"], wheels[name])
    work = tmp_path / "work"
    shutil.copytree(sources / name / "tests", work / "tests")
    shutil.copy(sources / name / "pyproject.toml", work)
    places = run(python, "-c", WHERE.format(package=name), cwd=work).split()
    for place in places:
        assert (tmp_path / "environment") in Path(place).parents
    for options, expected in runs.items():
        output = run(python, "-m", "pytest", "-p", "no:cacheprovider", *options, cwd=work,
                     limit=1200)  # fmt: skip
        last = output.splitlines()[-1]
        assert re.fullmatch(rf"=+ {expected} passed in .*=+", last), output
