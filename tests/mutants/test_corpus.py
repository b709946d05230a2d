"""The corpus of mutants itself: it is complete, fits the sources, and is documented."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from classes import CLASSES
from corpus import MUTANTS
from mutation import Mutant

from pytest_sparsity.checking.checks import CHECKS
from pytest_sparsity.reference.ops import OPS

TABLE = Path(__file__).parents[2] / "docs" / "mutants.md"


def test_every_class_op_and_backend_has_mutants() -> None:
    assert len(MUTANTS) >= 45
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert {mutant.kind for mutant in MUTANTS} >= CLASSES.keys()
    assert {mutant.op for mutant in MUTANTS} == OPS.keys()
    assert {mutant.backend for mutant in MUTANTS} == {
        *("cpu", "cuda", "cuda_right", "native", "torch", "triton")
    }


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_source_still_has_what_is_replaced(mutant: Mutant) -> None:
    text = Path(mutant.module()).read_text()
    assert f".{mutant.backend}." in text
    assert mutant.killer in CHECKS


def test_a_replacement_that_does_not_fit_is_refused() -> None:
    for old, times in (("no such text", 0), ("import triton", 2)):
        mutant = dataclasses.replace(MUTANTS[0], old=old)
        with pytest.raises(ValueError, match=rf"no-column-mask: {times} times in kernels/triton"):
            mutant.module()


def test_the_table_of_the_docs_lists_every_mutant_and_what_kills_it() -> None:
    rows = [line.split(" | ") for line in TABLE.read_text().splitlines() if line.startswith("| ")]
    listed = {row[0].removeprefix("| "): row[4] for row in rows if len(row) == 7}
    assert listed == {"mutant": "killed by"} | {m.name: m.killer for m in MUTANTS}, (
        "run python tests/mutants/table.py"
    )


def test_the_docs_say_that_mutants_die_with_computed_bounds() -> None:
    text = (TABLE.with_name("bounds.md")).read_text()
    count = len(MUTANTS)
    assert f"Each of the {count} [mutants]" in text, "run python tests/mutants/table.py --computed"
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| `")]
    counted = {row[0]: row[1:3] for row in rows if len(row) == 4}
    assert {op.strip("| `") for op in counted} == OPS.keys()
    assert all(mutants == dead for mutants, dead in counted.values())
