"""A changed model held against the stored one: dense, sparse, and what sparsity costs."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_sparsity.core.decision import Decision
from pytest_sparsity.sweep.cell import Cell, Configuration
from pytest_sparsity.sweep.record import Record
from pytest_sparsity.sweep.regression import judge_change, judge_damage

DENSE, SPARSE = Configuration("m"), Configuration("m", "teal", 0.5)
KEY: dict[str, Any] = {
    "weights": "w",
    "tokens": "t",
    "data": {"corpus": "c", "window": 256},
    "seed": 0,
}
NEW = {"weights": "v"}


def made(measured: dict[str, Any], configuration: Configuration, evaluation: str, **key: Any):
    cell = Cell(configuration, evaluation)
    return Record(cell, {**KEY, **key}, measured, {}, "2026-01-01T00:00:00")


def documents(
    factor: float, configuration: Configuration = DENSE, count: int = 32, noise: float = 0, **key
):
    """Documents of 64 tokens, alike but for a factor on their loss and noise of each document."""
    text = random.Random(1)
    change = random.Random(f"{factor} {configuration.id} {key}")
    units = []
    for number in range(count):
        own = factor + change.gauss(0, noise)
        log_likelihoods = [-text.expovariate(0.3) * own for _ in range(64)]
        units.append({"id": f"d{number}", "tokens": 64, "log_likelihoods": log_likelihoods})
    return made({"documents": units}, configuration, "perplexity:austen", **key)


def items(right: list[bool], configuration: Configuration = DENSE, **key: Any) -> Record:
    units = [{"id": f"i{n}", "right": r, "right_normalised": r} for n, r in enumerate(right)]
    measured = {"items": units, "normalisation": "sum", "chance": 0.5}
    return made(measured, configuration, "task:sva", **key)


def test_it_is_refused_unless_asked_for_and_says_how_to_ask():
    found = judge_change(documents(1.05, **NEW), documents(1.0), seed=0)
    assert found.decision is Decision.NOT_COMPARABLE
    assert "the models' weights differ: v now, w in the baseline" in found.reason
    assert "--sparsity-across=weights" in found.reason
    assert "pytest-sparsity compare" in found.reason


def test_a_worse_model_is_a_regression_where_it_is_asked_for():
    found = judge_change(documents(1.01, **NEW), documents(1.0), seed=0, across=True)
    assert found.decision is Decision.REGRESSED
    assert (found.before, found.now) == (pytest.approx(29.2, rel=0.2), pytest.approx(30, rel=0.2))
    assert found.to_json()["figures"]["now"] == found.now > found.before


@pytest.mark.parametrize("name", ["data", "seed", "prefill"])
def test_nothing_else_may_differ(name):
    found = judge_change(documents(1.0, **NEW, **{name: 9}), documents(1.0), seed=0, across=True)
    assert found.decision is Decision.NOT_COMPARABLE


def test_other_tokenizers_are_compared_by_items_only():
    other = {**NEW, "tokens": "u"}
    found = judge_change(documents(1.0, **other), documents(1.0), seed=0, across=True)
    assert found.decision is Decision.NOT_COMPARABLE
    assert "the tokenizers differ" in found.reason
    assert "bits per byte" in found.reason
    right = [n % 4 > 0 for n in range(200)]
    found = judge_change(items(right, **other), items(right), seed=0, across=True)
    assert found.decision is Decision.OK


def test_a_record_that_does_not_tell_its_tokenizer_is_refused():
    before = documents(1.0)
    before = replace(before, key={k: v for k, v in before.key.items() if k != "tokens"})
    found = judge_change(documents(1.0, **NEW), before, seed=0, across=True)
    assert found.decision is Decision.NOT_COMPARABLE
    assert "the record in the baseline does not say how its tokenizer cuts text" in found.reason
    assert judge_change(documents(1.0), before, seed=0).decision is Decision.OK  # as ever


def test_documents_of_other_lengths_are_other_texts():
    now = documents(1.0, **NEW)
    now.measured["documents"][3]["tokens"] = 60
    found = judge_change(now, documents(1.0), seed=0, across=True)
    assert found.decision is Decision.NOT_COMPARABLE
    assert "document d3 has 60 tokens now and 64 in the baseline" in found.reason


def test_units_of_one_side_are_told():
    found = judge_change(documents(1.05, count=40), documents(1.0, count=20), seed=0)
    assert "over 20 documents" in found.reason
    assert "20 are in both of 40 now and 20 before" in found.reason


def test_one_document_decides_nothing():
    found = judge_change(documents(1.3, count=1, **NEW), documents(1.0, count=1), seed=0, across=1)
    assert found.decision is Decision.INCONCLUSIVE
    assert "one document says nothing" in found.reason


# --- the damage


def four(dense_now: float, sparse_now: float, noise: float = 0.0):
    """The change of the damage of a model whose dense and sparse losses were 1 and 1.01."""
    return judge_damage(
        documents(sparse_now, SPARSE, noise=noise, **NEW),
        documents(dense_now, noise=noise, **NEW),
        documents(1.01, SPARSE, noise=noise),
        documents(1.0, noise=noise),
        seed=0,
    )


@pytest.mark.parametrize(
    ("dense", "sparse", "decision"),
    [
        (1.10, 1.11, Decision.OK),  # dense is much worse, and sparsity costs what it did
        (1.10, 1.12, Decision.REGRESSED),
        (0.90, 0.92, Decision.REGRESSED),  # sparse is better than it was, and dense even more
        (1.10, 1.105, Decision.IMPROVED),
    ],
)
def test_the_damage_is_compared_with_the_damage(dense, sparse, decision):
    found = four(dense, sparse)
    assert found is not None
    assert found.decision is decision, found.message
    assert found.id == "m-teal-0.50-perplexity:austen, damage"


def test_the_damage_is_the_difference_of_two_differences():
    found = four(1.10, 1.12, noise=0.001)
    assert found is not None
    assert found.change is not None
    loss = sum(-sum(d["log_likelihoods"]) for d in documents(1.0).units) / (32 * 64)
    assert found.change.estimate == pytest.approx(2.718281828 ** (0.01 * loss) - 1, rel=0.05)
    ratio = (1 + found.now) / (1 + found.before)
    assert found.change.estimate == pytest.approx(ratio - 1, rel=1e-9)
    assert re.search(r"sparsity costs \+\d.* % of perplexity, before \+\d", found.reason)


def test_the_damage_of_tasks_is_paired_by_item():
    dense = [n % 8 > 0 for n in range(400)]
    was = [right and n >= 20 for n, right in enumerate(dense)]
    is_now = [right and n >= 120 for n, right in enumerate(dense)]
    records = (
        items(is_now, SPARSE, **NEW),
        items(dense, **NEW),
        items(was, SPARSE),
        items(dense),
    )
    found = judge_damage(*records, seed=0)
    assert found is not None
    assert found.decision is Decision.REGRESSED
    assert found.change.estimate == pytest.approx((sum(was) - sum(is_now)) / 400)
    assert found.before == pytest.approx((sum(dense) - sum(was)) / 400)


def test_a_sparse_record_of_an_older_model_has_no_damage():
    found = judge_damage(
        documents(1.0, SPARSE, weights="older"),
        documents(1.0, **NEW),
        documents(1.0, SPARSE),
        documents(1.0),
        seed=0,
    )
    assert found is not None
    assert found.decision is Decision.NOT_COMPARABLE
    assert "measure both in one run" in found.reason


def test_dense_cells_have_none():
    assert judge_damage(*[documents(1.0)] * 4, seed=0) is None


# --- in a sweep


@pytest.fixture
def changed(sweep, tmp_path: Path, model_folder: Path) -> tuple[Path, Path]:
    """A stored run of a model, and the folder of one that is worse: the same, with noise."""
    import torch
    import transformers

    stored, worse = tmp_path / "stored", tmp_path / "saved-2"
    options = ("--sparsity-sweep", "-k", "within_budget", f"--sparsity-model={model_folder}")
    done = sweep.here(
        *options, *FEW, "--sparsity-update", f"--sparsity-baseline={stored}", "--sparsity-report=a"
    )
    assert done.ret == 0
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(model_folder)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    for file in model_folder.iterdir():
        worse.mkdir(exist_ok=True)
        (worse / file.name).write_bytes(file.read_bytes())
    model.save_pretrained(worse)
    return stored, worse


FEW = ("--sparsity-spon=off", "--sparsity-tasks=none")


@pytest.mark.slow
def test_a_changed_model_in_a_sweep(sweep, changed):
    """Under another name, beside one that is as it was."""
    stored, worse = changed
    gate = ("--sparsity-sweep", "-k", "accuracy_lost", "--sparsity-gate=fail", "-rs", *FEW)
    gate += (f"--sparsity-baseline={stored}", f"--sparsity-model={worse}")
    refused = sweep.here(*gate)
    refused.stdout.fnmatch_lines(["*model under another name*--sparsity-across=weights*"])
    result = sweep.here(*gate, "--sparsity-across=weights")
    assert result.ret == 1
    decided = json.loads((sweep.report / "gate.json").read_text())["decisions"]
    names = {each["id"]: each["decision"] for each in decided}
    assert names["saved-2-dense-perplexity:austen"] == "regressed"
    assert "saved-2-teal-0.50-perplexity:austen, damage" in names
    assert "saved-2-teal-0.50-generation" in names
    assert {each for each in names.values() if "tiny-random" in each} <= {"ok"}
    assert not [each for each in names if "tiny-random" in each and "damage" in each]


def test_the_option_needs_a_stored_run(sweep, assert_refused):
    result = sweep.here("--sparsity-sweep", "--sparsity-across=weights")
    assert_refused(result, "--sparsity-across 'weights'", "--sparsity-baseline")


def test_repeated_units_are_damage():
    content = json.loads(documents(1.0, count=3).to_json())
    content["measured"]["documents"].append(content["measured"]["documents"][1])
    with pytest.raises(ValueError, match="unit 'd1' is in it 2 times"):
        Record.from_json(json.dumps(content))
