"""Modules under their old names: the same module, and a warning that tells the new one."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec

import pytest

from pytest_sparsity.core.moved import MOVED


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("old", sorted(MOVED))
def test_every_new_name_is_there_and_no_old_one_is_taken(
    old: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Who imported the old name before, has the new module under it.
    monkeypatch.delitem(sys.modules, f"pytest_sparsity.{old}", raising=False)
    assert find_spec(f"pytest_sparsity.{MOVED[old]}") is not None
    spec = find_spec(f"pytest_sparsity.{old}")
    assert spec is not None
    assert type(spec.loader).__name__ == "_Loader"


def test_an_old_name_gives_the_module_with_a_warning() -> None:
    sys.modules.pop("pytest_sparsity.stats", None)
    with pytest.warns(DeprecationWarning, match="pytest_sparsity.stats is pytest_sparsity.core"):
        old = import_module("pytest_sparsity.stats")
    new = import_module("pytest_sparsity.core.statistics")
    assert old is new
    assert new.__spec__ is not None
    assert new.__spec__.name == new.__name__ == "pytest_sparsity.core.statistics"


def test_modules_of_a_moved_package() -> None:
    program = (
        "import warnings; warnings.simplefilter('ignore');"
        "from pytest_sparsity.benchmarking.gate.rules import TOLERANCE_CPU;"
        "from pytest_sparsity.options import Settings;"
        "from pytest_sparsity.speed.gate import rules;"
        "print(TOLERANCE_CPU == rules.TOLERANCE_CPU)"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "True"
