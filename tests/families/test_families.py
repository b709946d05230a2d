"""Every decoder-only architecture of transformers: mapped, and everything promised of it holds, or
refused in one sentence."""

from __future__ import annotations

from dataclasses import replace

import pytest
import transformers
from measured import ARCHITECTURES, LARGEST_EXEMPT, measure
from table import PAGE, document, page

from pytest_sparsity.models.families import FILE, LEFT_OUT, MAPPED, REFUSED, Family, read_families

KEPT = read_families()
BY_TYPE = {family.type: family for family in KEPT.all}
#: So many are mapped, and hold all that is promised, at the least: a number that only rises.
FLOOR = 151
#: What does not hold yet, and why: a list that only gets shorter.
NOT_YET: dict[str, str] = {}
#: The lowest version of transformers, and what is not mapped there -> the beginning of why.
LOWEST = "4.56.0"
REFUSED_THERE = {
    "dbrx": "DbrxForCausalLM cannot be sparsified: it is mapped in part only",
    "doge": "model twin: DogeForCausalLM gives other logits without a cache",
    "gemma3n_text": "model twin: Gemma3nForCausalLM gives other logits without a cache",
    "open-llama": "OpenLlamaForCausalLM has no output embeddings",
}
#: So many are mapped there.
MAPPED_THERE = 85
lowest = pytest.mark.skipif(
    transformers.__version__ != LOWEST, reason=f"it is of transformers {LOWEST}"
)
same_version = pytest.mark.skipif(
    transformers.__version__ != KEPT.transformers,
    reason=f"families.json is of transformers {KEPT.transformers}",
)
pytestmark = pytest.mark.usefixtures("one_thread")


def _check(found: Family) -> None:
    assert "\n" not in found.reason
    if found.type in NOT_YET:
        assert found.faults, f"{found.type} is right now: take it out of NOT_YET"
    else:
        assert not found.faults
    if transformers.__version__ == LOWEST and found.status == REFUSED:
        assert found.reason.startswith(REFUSED_THERE[found.type])
    if transformers.__version__ == KEPT.transformers:
        kept = BY_TYPE[found.type]  # the numbers in words of faults are those of a machine
        assert replace(found, faults=()) == replace(kept, faults=()), (
            "run `python tests/families/table.py`"
        )


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bert"])
def test_an_architecture_is_as_the_package_says(kind: str) -> None:
    _check(measure(kind))


@pytest.mark.slow
@pytest.mark.lowest
@pytest.mark.parametrize("kind", [kind for kind in ARCHITECTURES if kind not in ("gpt2", "llama")])
def test_every_architecture_is_as_the_package_says(kind: str) -> None:
    _check(measure(kind))


@same_version
def test_the_package_says_something_of_every_architecture() -> None:
    assert tuple(BY_TYPE) == ARCHITECTURES
    assert document(KEPT.all) == FILE.read_text(encoding="utf-8")


@same_version
def test_so_many_are_mapped() -> None:
    mapped = [f for f in KEPT.of(MAPPED) if f.exempt <= LARGEST_EXEMPT and f.type not in NOT_YET]
    assert len(mapped) >= FLOOR


@lowest
@pytest.mark.slow
@pytest.mark.lowest
def test_so_many_are_mapped_with_the_lowest_version() -> None:
    found = [measure(kind) for kind in ARCHITECTURES]
    assert {each.type for each in found if each.status == REFUSED} == set(REFUSED_THERE)
    assert sum(each.status == MAPPED for each in found) == MAPPED_THERE
    assert 0.95 * (MAPPED_THERE + len(REFUSED_THERE)) <= MAPPED_THERE


def test_the_page_says_what_is_mapped_with_the_lowest_version() -> None:
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert (
        f"Of the {MAPPED_THERE + len(REFUSED_THERE)} decoder-only architectures that transformers "
        f"{LOWEST} can build in small and run, {MAPPED_THERE} are mapped, with all that is listed "
        f"above, and {len(REFUSED_THERE)} are refused in a sentence."
    ) in text
    readme = " ".join((PAGE.parents[1] / "README.md").read_text(encoding="utf-8").split())
    assert f"of the {MAPPED_THERE + len(REFUSED_THERE)} that" in readme
    assert f"builds and runs, {MAPPED_THERE}," in readme
    mapped, refused = KEPT.of(MAPPED), KEPT.of(REFUSED)
    assert f"Of {len(mapped) + len(refused)} decoder-only" in readme
    assert f"{len(mapped)} are mapped;" in readme
    assert all(f"`{kind}`" in text.partition("With transformers 4.56")[2] for kind in REFUSED_THERE)


def test_each_that_is_not_has_a_reason() -> None:
    for family in (*KEPT.of(REFUSED), *KEPT.of(LEFT_OUT)):
        assert family.reason, family.type
    assert all(not family.reason for family in KEPT.of(MAPPED))


@same_version
def test_what_does_not_hold_yet_is_known() -> None:
    assert {family.type for family in KEPT.all if family.faults} == set(NOT_YET)


def test_the_page_is_of_the_same_numbers() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert page(KEPT, text) == text
    assert KEPT.summary in text
