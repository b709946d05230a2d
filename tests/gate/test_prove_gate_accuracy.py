"""ci/prove_gate/accuracy.py: what it does to a model, counts and adds up."""

from __future__ import annotations

import json
import math
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

from pytest_sparsity.core.progress import silent
from pytest_sparsity.models import load_model
from pytest_sparsity.sweep.cell import Configuration

FOLDER = Path(__file__).parents[2] / "ci" / "prove_gate"
sys.path.append(str(FOLDER))
accuracy, degradations, rivals, summaries, pages = map(
    import_module,
    ("accuracy", "degradations", "rivals_accuracy", "accuracy_summary", "accuracy_page"),
)
sys.path.remove(str(FOLDER))

TINY = Configuration("tiny-random")


def weights(model):
    return torch.cat([site.module.weight.detach().flatten() for site in model.sites])


@pytest.fixture(scope="module")
def model():
    return load_model("tiny-random", dtype="float32")


@pytest.mark.parametrize("change", degradations.CHANGES)
def test_a_change_is_reproducible_and_leaves_nothing_behind(model, change):
    before = weights(model)
    changed = []
    for seed in (0, 0, 1):
        with degradations.changed(model, change, seed, 0.1):
            changed.append(weights(model))
        assert torch.equal(weights(model), before)
    assert torch.equal(changed[0], changed[1])
    assert not torch.equal(changed[0], changed[2])
    assert not torch.equal(changed[0], before)


def test_weights_come_back_after_an_error(model):
    before = weights(model)
    with pytest.raises(RuntimeError), degradations.changed(model, "noise", 0, 1.0):
        raise RuntimeError
    assert torch.equal(weights(model), before)


def test_sizes_of_noise_and_of_steps(model):
    site, size = model.sites[0], 0.3
    before = site.module.weight.clone()
    with degradations.changed(model, "noise", 0, size):
        error = site.module.weight - before
    assert float(error.std() / before.std()) == pytest.approx(size, rel=0.1)
    step = size * before.std(1, keepdim=True)
    with degradations.changed(model, "rounding", 0, size):
        steps = site.module.weight / step
    assert float(((steps * step - before).abs() / step).max()) <= 0.5 + 1e-4
    torch.testing.assert_close(steps - steps[:, :1], (steps - steps[:, :1]).round())


def test_another_order_is_the_same_function(model):
    tokens = torch.arange(1, 33)[None]
    with torch.no_grad():
        before = model.model(tokens).logits
        with degradations.changed(model, "order", 0, 0.0):
            torch.testing.assert_close(model.model(tokens).logits, before)


def test_the_size_for_a_loss():
    def cost(size):
        return math.expm1(0.2 * size + 30 * size**2)

    points = {size: cost(size) for size in (0.02, 0.04)}
    for loss in (0.01, 0.02, 0.05):
        assert cost(degradations.size_for(loss, points)) == pytest.approx(loss)
    with pytest.raises(ValueError, match=r"cost 2\.00% and 1\.00%"):
        degradations.size_for(0.01, {0.02: 0.02, 0.04: 0.01})


def documents(rise, count=32):
    """Losses per token of 3 and more, all raised by ``rise`` per token: now and before."""
    before = [(255, 255 * (3 + 0.2 * math.sin(number))) for number in range(count)]
    return [(n, nll + n * rise) for n, nll in before], before


@pytest.mark.parametrize(
    ("loss", "alarms"),
    [
        (0.0, set()),
        (0.004, set()),
        (0.006, {rivals.PLAIN}),
        (0.011, {rivals.PLAIN, rivals.VLLM_PERPLEXITY}),
        (0.079, {rivals.PLAIN, rivals.VLLM_PERPLEXITY, rivals.LM_EVAL}),
        (0.081, {rivals.PLAIN, rivals.VLLM_PERPLEXITY, rivals.LM_EVAL, rivals.VLLM_ACCURACY}),
        (-0.079, {rivals.LM_EVAL}),
    ],
)
def test_rivals(loss, alarms):
    found = rivals.alarms(*documents(math.log1p(loss)))
    assert {rule for rule, alarm in found.items() if alarm} == alarms


def test_the_comparator_is_that_of_lm_eval():
    now, before = documents(0.07)
    means = [[nll / n for n, nll in side] for side in (now, before)]
    mean = [sum(side) / 32 for side in means]
    errors = [
        math.sqrt(sum((x - m) ** 2 for x in side) / 31) / math.sqrt(32)
        for side, m in zip(means, mean, strict=True)
    ]
    z = (mean[0] - mean[1]) / math.hypot(*errors)
    assert rivals.alarms(now, before)[rivals.LM_EVAL] == (math.erfc(abs(z) / 2**0.5) <= 0.05)


def test_the_comparator_of_one_and_the_same_number():
    now, before = [(10, 30.0)] * 4, [(10, 31.0)] * 4
    assert not rivals.alarms(now, now)[rivals.LM_EVAL]
    assert rivals.alarms(now, before)[rivals.LM_EVAL]


def row(key, **more):
    facts = {
        "key": key,
        "kind": "draws",
        "loss": 0.01,
        "change": "noise",
        "level": 0.0,
        "documents": 32,
        "true": 0.009,
        "decisions": 4,
        "ours": {"regressed": 3, "inconclusive": 1},
        "rivals": {"z": 1},
    }
    return {**facts, **more}


@pytest.fixture
def rows():
    return [
        {
            "key": "i",
            "kind": "identical",
            "cell": "c",
            "evaluation": "task",
            "units": 50,
            "size": 25,
            "decisions": {"ok": 1, "regressed": 1},
            "equal": 1,
        },
        row("a"),
        row("b", change="rounding", true=0.012, ours={"ok": 4}, rivals={"z": 0}),
        row("c", loss=0, change="order", level=0.5, true=0.001),
        row("d", kind="power", documents=32, ours={"regressed": 2, "ok": 2}),
        row("e", kind="power", documents=64, ours={"regressed": 4}),
        {"key": "f", "kind": "scores", "documents": []},
    ]


def test_summary(rows):
    found = summaries.summary(rows)
    assert found.identical == [summaries.Identical("c", "task", 50, 25, 2, 1, 1)]
    harmless, lossy = found.draws
    assert harmless.what == "neurons of every MLP in another order, TEAL 0.50"
    assert (lossy.what, lossy.true, lossy.decisions) == ("1 % loss", (0.009, 0.012), 8)
    assert lossy.share("regressed") == 3 / 8
    assert lossy.share("improved") == 0
    assert lossy.alarms("z") == 1 / 8
    assert found.needed == {0.01: 58}  # 32 + 32 * 0.4 / 0.5, rounded up


def test_the_page(rows):
    text = pages.accuracy_section(rows)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "1 false alarms in 2 decisions." in text
    assert "| task | 1 | 50 | 25 | 2 | 1 | 1 |" in lines
    assert "| 1 % loss | +0.90 to +1.20 | 8 | 3 | 1 | 4 | 0 |" in lines
    assert "| **this gate**, regressed | 50 |" in lines
    assert "| 1 % | 50 [7, 93] | 100 [40, 100] |" in lines
    assert "A loss of 1 % is caught nine times in ten with 58 documents." in text
    assert pages.accuracy_section([]) == "## Accuracy\nNot measured."


@pytest.mark.parametrize(
    ("shares", "documents"),
    [({10: 1.0}, 9), ({10: 0.2, 20: 0.9}, 20), ({10: 0.2, 20: 0.8}, None), ({}, None)],
)
def test_documents_for(shares, documents):
    assert summaries.documents_for(0.9, shares) == documents


def test_an_incomplete_last_line_is_measured_again(tmp_path):
    out = tmp_path / "rows.jsonl"
    out.write_text(json.dumps(row("a")) + '\n{"key": "b", "ki')
    assert [one["key"] for one in accuracy.rows(out)] == ["a"]
    found = accuracy._Rows(out)
    found.add("b", kind="draws")
    assert [one["key"] for one in accuracy.rows(out)] == ["a", "b"]
    assert accuracy.rows(tmp_path / "none") == []


@pytest.mark.slow
def test_a_study_of_a_small_model(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)  # for the processes that it starts
    out = tmp_path / "rows.jsonl"
    with out.open("w") as file:
        for corpus in ("austen", "factbook"):  # a model that knows nothing has nothing to lose
            sizes = {"key": f"sizes noise 0 {corpus}", "kind": "sizes"}
            file.write(json.dumps({**sizes, "points": [[0.5, 0.02], [1.0, 0.06]]}) + "\n")
    study = accuracy.Study(
        model="tiny-random",
        identical=(
            (TINY, "perplexity:austen", 2),
            (TINY, "perplexity:factbook", 2),
            (TINY, "task:sva", 1),
        ),
        variants=(
            accuracy.Variant("noise", 0, 0.05, draws=2),
            accuracy.Variant("order", 0, draws=2),
            accuracy.Variant("float32", 0, draws=1),
            accuracy.Variant("nothing", level=0.5, draws=1),
            accuracy.Variant("order", 0, level=0.5, draws=1),
        ),
        numbers=(16,),
        resamples=5,
    )
    accuracy.prove(out, tmp_path / "cache", silent, study)
    found = accuracy.summary(accuracy.rows(out))
    assert {one.cell: (one.decisions, one.equal, one.alarms) for one in found.identical} == {
        "tiny-random-dense-perplexity:austen": (2, 2, 0),
        "tiny-random-dense-perplexity:factbook": (2, 2, 0),
        "tiny-random-dense-task:sva": (4, 4, 0),
    }
    decided = {rates.what: (rates.documents, rates.decisions) for rates in found.draws}
    assert decided == {
        "float32 instead of bfloat16, dense": (32, 2),
        "neurons of every MLP in another order, dense": (32, 4),
        "neurons of every MLP in another order, TEAL 0.50": (32, 2),
        "5 % loss": (32, 4),
    }
    assert {rates.true for rates in found.drawn} == {(0.0, 0.0), (0.05, 0.05)}
    assert all(rates.decisions == 10 for rates in found.drawn)
    written = out.read_bytes()
    accuracy.prove(out, tmp_path / "cache", silent, study)  # all is there
    assert out.read_bytes() == written
