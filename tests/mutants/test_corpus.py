"""The corpus of mutants itself: it is complete, fits the sources, and is documented."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import page
import pytest
from classes import CLASSES
from corpus import MUTANTS
from mutation import Mutant
from outcomes import COMPUTED, Outcomes
from switched_off import GROUPS

from pytest_sparsity.checking.checks import CHECKS
from pytest_sparsity.reference.ops import OPS

OUTCOMES = Outcomes.read()


def test_every_class_op_and_backend_has_mutants() -> None:
    assert len(MUTANTS) >= 160
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert {mutant.kind for mutant in MUTANTS} >= CLASSES.keys()
    assert {mutant.op for mutant in MUTANTS} == OPS.keys()
    assert {mutant.backend for mutant in MUTANTS} == {
        *("cpu", "cuda", "cuda_right", "native", "torch", "triton")
    }
    assert {mutant.decisive for mutant in MUTANTS} == {"", *GROUPS}


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


def test_what_is_kept_is_forgotten_where_sources_change() -> None:
    mutant = MUTANTS[0]
    assert OUTCOMES.row(mutant)
    assert not OUTCOMES.row(dataclasses.replace(mutant, new=mutant.new + " "))


def test_what_is_kept_has_a_death_of_every_mutant() -> None:
    missing = [m.name for m in MUTANTS if m.killer not in OUTCOMES.killers(m)]
    assert not missing, "run python tests/mutants/table.py --killers"


def test_the_page_is_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = page.PAGE.read_text()
    monkeypatch.setattr(page, "PAGE", tmp_path / "mutants.md")
    page.write(OUTCOMES, MUTANTS)

    def without_versions(text: str) -> list[str]:
        return [line for line in text.splitlines() if "c++" not in line]

    again = page.PAGE.read_text()
    assert without_versions(again) == without_versions(written), "run python tests/mutants/table.py"


@pytest.mark.parametrize("check", [check for check in CHECKS if check != "edges"])
def test_every_check_alone_finds_a_mutant_without_edges(check: str) -> None:
    assert page.alone(OUTCOMES, MUTANTS, check)


@pytest.mark.parametrize("group", GROUPS)
def test_a_mutant_survives_without_each_group_of_decisive_cases(group: str) -> None:
    assert page.survivors(OUTCOMES, MUTANTS, group)


def test_the_docs_say_that_mutants_die_with_computed_bounds() -> None:
    text = page.BOUNDS.read_text()
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| `")]
    counted = {row[0]: row[1:3] for row in rows if len(row) == 4}
    assert {op.strip("| `") for op in counted} == OPS.keys()
    assert all(mutants == dead for mutants, dead in counted.values())
    known = [mutant for mutant in MUTANTS if OUTCOMES.row(mutant, COMPUTED)]
    if known:  # it is written from these
        assert f"{len(known)} of the [mutants]" in text, "run tests/mutants/table.py --computed"
