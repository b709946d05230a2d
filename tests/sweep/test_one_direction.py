"""From the settings to a verdict the code of a cell goes one way: no module imports a later one."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from pytest_sparsity import sweep

FOLDER = Path(sweep.__file__).parent
PREFIX = f"{sweep.__name__}."

#: Names a cell, and what methods, models, tasks and corpora there are.
NAMES = ("cell", "grid", "code_hash", "chosen_methods", "offered")
#: Each makes one thing, once, from what those before it made.
STORES = (
    *("load_checks", "model_store", "text_store", "weight_store", "calibration_store"),
    *("plan_store", "configured_model", "dense_results", "dense_cache", "record_key", "stores"),
)
MEASURING = ("record", "inputs", "task_cells", "measuring")
JUDGING = (
    *("metric", "task_metrics", "comparison", "budgets", "verdict"),
    *("influences", "evidence"),
)
#: The way of a cell; ``resolve`` is the only step that sees the stores.
WAY = (*NAMES, *STORES, *MEASURING, "resolve", *JUDGING, "looking", "skipped", "store", "session")
#: What is made of sessions and of their records.
READERS = (
    *("baseline", "comparable", "changes", "regression", "renaming", "two_runs"),
    *(
        "sample_scores",
        "sample_changes",
        "held",
        "known_spreads",
        "past_runs",
        "forecast",
        "make_forecast",
    ),
    *("propose", "neurons", "sanity"),
)
ORDER = (*WAY, *READERS)


def imported(path: Path) -> set[str]:
    """Modules of the sweep that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative imports hide where they go"
            assert node.module is not None
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        parts = [name.removeprefix(PREFIX).partition(".")[0] for name in names if PREFIX in name]
        found.update(part for part in parts if (FOLDER / f"{part}.py").exists())
    return found


def test_every_module_has_its_place() -> None:
    files = {path.stem for path in FOLDER.glob("*.py")} - {"__init__"}
    assert sorted(ORDER) == sorted(files)


@pytest.mark.parametrize("module", ORDER)
def test_a_module_imports_only_what_comes_before_it(module: str) -> None:
    before = ORDER[: ORDER.index(module)]
    assert sorted(imported(FOLDER / f"{module}.py") - set(before)) == []


@pytest.mark.parametrize("module", [*MEASURING, *JUDGING])
def test_measuring_and_judging_look_nothing_up(module: str) -> None:
    plain = {*NAMES, *MEASURING, *JUDGING, "dense_results"}
    assert imported(FOLDER / f"{module}.py") <= plain


def test_measuring_and_judging_see_no_settings() -> None:
    """The stores read them; whoever measures or judges is told what matters."""
    for module in (*MEASURING, *JUDGING):
        text = (FOLDER / f"{module}.py").read_text(encoding="utf-8")
        assert "from pytest_sparsity.settings.settings" not in text


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("from pytest_sparsity.sweep.session import SweepSession", {"session"}),
        ("from pytest_sparsity.sweep import grid, budgets", {"grid", "budgets"}),
        ("import pytest_sparsity.sweep.record as r", {"record"}),
        ("def f():\n    from pytest_sparsity.sweep.cell import Cell", {"cell"}),
        ("from pytest_sparsity.core import files\nimport json", set()),
    ],
)
def test_imports_are_seen(tmp_path: Path, text: str, found: set[str]) -> None:
    path = tmp_path / "module.py"
    path.write_text(text)
    assert imported(path) == found
