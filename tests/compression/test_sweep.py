"""Compressed weights through a sweep: cells, keys, records, tables and errors."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from pytest_sparsity.methods.spon.library import VectorLibrary
from pytest_sparsity.methods.spon.training import Recipe
from pytest_sparsity.methods.spon.vectors import SpontaneousVectors
from pytest_sparsity.settings.settings import default_settings
from pytest_sparsity.sweep import plan_store, weight_store
from pytest_sparsity.sweep.cell import Cell, Configuration
from pytest_sparsity.sweep.session import SweepSession

MODEL = "tiny-random"
SPARSE = Configuration(MODEL, "teal", 0.5, weights="int4-32")
CELL = Cell(SPARSE, "perplexity:austen")


@pytest.fixture
def session(tmp_path, sparsity_cache):
    return SweepSession(
        replace(
            default_settings(),
            models=(MODEL,),
            weights=("loaded", "int4-32"),
            levels=(0.5,),
            corpora=("austen",),
            profile="smoke",
            tasks=("sva",),
            report=tmp_path,
            cache=sparsity_cache,
            dtype="float32",
        )
    )


def test_what_is_measured(session):
    compared = {
        cell: {c.metric: c for c in session.compare(cell)}
        for cell in (CELL, CELL.weights_only, replace(CELL, evaluation="generation"))
    }
    both, weights = compared[CELL], compared[CELL.weights_only]
    # Weights alone lose something against the model as it was loaded, and have a divergence.
    assert set(weights) == {"perplexity:austen", "kl:austen", "agreement:austen"}
    assert 0 < weights["kl:austen"].value.estimate < both["kl:austen"].value.estimate
    assert session.record(CELL).measured["achieved"]["weighted"] == pytest.approx(0.5, abs=0.03)
    assert "achieved" not in session.record(CELL.weights_only).measured
    for cell in compared:
        found = session.record(cell).measured["compression"]
        assert (found["scheme"], found["bits"]) == ("int4-32", 4 + 32 / 32)
        assert found["seconds"] >= 0
    assert "compression" not in session.record(CELL.dense).measured


def test_sparse_activations_are_calibrated_on_the_compressed_model(session):
    found = {
        weights: session.plans.plan(replace(SPARSE, weights=weights))
        for weights in session.settings.weights
    }
    assert found["loaded"].selectors != found["int4-32"].selectors


def test_keys(session, monkeypatch):
    """Known without compressing: a summary makes keys of every cell."""
    monkeypatch.setattr(weight_store, "compress", None)
    keys = [
        session.key(replace(CELL, configuration=replace(SPARSE, weights=weights)))
        for weights in ("loaded", "int4-32", "wanda-0.5")
    ]
    for name in ("weights", "calibration"):
        assert len({key[name] for key in keys}) == 3
    monkeypatch.undo()
    model = session.weights.model(MODEL, "wanda-0.5")
    assert keys[2]["weights"] == model.weights_hash
    assert keys[2]["calibration"] == session.calibrations.calibrator(MODEL, "wanda-0.5").hash
    assert keys[0]["weights"] == session.models.load(MODEL).weights_hash


def test_one_compressed_model_at_a_time(session):
    first = session.weights.model(MODEL, "int4-32")
    assert session.weights.model(MODEL, "int4-32") is first
    assert session.weights.model(MODEL, "loaded") is session.models.load(MODEL)
    assert session.weights.model(MODEL, "int4-32") is first


def test_spon_learns_from_the_model_as_it_was_loaded(session, tmp_path, monkeypatch):
    seen = []

    def get(self, model, plan, streams, teacher, weights):
        seen.append((model, plan, teacher, weights))
        raise LookupError

    monkeypatch.setattr(VectorLibrary, "get", get)
    with pytest.raises(LookupError):
        session.plans.vectors(replace(SPARSE, spon="trained"))
    model, plan, teacher, weights = seen[0]
    assert weights == "int4-32"
    assert model is session.weights.model(MODEL, "int4-32")
    assert plan.selectors == session.plans.plan(SPARSE).selectors
    assert teacher is session.models.load(MODEL)


def test_vectors_of_another_teacher_do_not_fit(session, tmp_path):
    recipe = Recipe(
        *(2, 2, 32), held_out=2, check_every=2, sites=("down",), layers=(1, 1), warmup=1
    )
    library = VectorLibrary(tmp_path, recipe, "missing")
    model, plan = session.weights.model(MODEL, "int4-32"), session.plans.plan(SPARSE)
    text = {"x": torch.randint(0, 256, (400,), generator=torch.Generator().manual_seed(1))}
    loaded = session.models.load(MODEL)
    teachers = [
        library.get(model, plan, text, teacher).provenance["teacher"]
        for teacher in (None, loaded, None, loaded)
    ]
    assert teachers == 2 * [model.weights_hash, loaded.weights_hash]
    assert len(list((tmp_path / "vectors").rglob("*.safetensors"))) == 2


def test_level_zero_is_the_compressed_model(session):
    """Bit for bit: what vectors win back at level 0 is what compression took."""
    dense = session.record(CELL.weights_only)
    for weights in ("int4-32", "wanda-0.5"):
        sparse = replace(SPARSE, level=0.0, weights=weights)
        both = [
            session.record(replace(CELL, configuration=c)).measured["documents"]
            for c in (sparse, sparse.weights_only)
        ]
        assert both[0] == both[1]
    assert dense.measured["documents"] != session.record(CELL.dense).measured["documents"]


def test_vectors_at_level_zero_win_back_what_compression_took(session, monkeypatch):
    recipe = Recipe(8, 4, 32, held_out=4, check_every=4, rate=0.2, warmup=2)
    monkeypatch.setattr(plan_store, "Recipe", lambda **_: recipe)
    session = SweepSession(replace(session.settings, train="all"))
    sparse = replace(SPARSE, level=0.0, weights="magnitude-0.5", spon="trained")
    looks = [loss for _, loss in session.plans.vectors(sparse).provenance["held_out_loss"]]
    assert min(looks) < looks[0]
    cell = replace(CELL, configuration=sparse)
    assert session.record(cell).key["spon"] == session.plans.vectors(sparse).hash
    assert {c.metric for c in session.compare(cell)} >= {"perplexity:austen", "recovery:austen"}


def test_a_cast_of_the_weights(session, monkeypatch):
    """Its own dtype, calibration and hash; divergence from the model as it was loaded."""
    session = SweepSession(replace(session.settings, dtype="bfloat16"))
    sparse = replace(SPARSE, weights="float32")
    cell = replace(CELL, configuration=sparse)
    keys = [session.key(each) for each in (cell, cell.dense)]
    assert [key["dtype"] for key in keys] == ["float32", "bfloat16"]
    model = session.weights.model(MODEL, "float32")
    assert keys[0]["weights"] == model.weights_hash != keys[1]["weights"]
    assert keys[0]["calibration"] == session.calibrations.calibrator(MODEL, "float32").hash
    compared = {c.metric: c.value.estimate for c in session.compare(cell.weights_only)}
    assert 0 < compared["kl:austen"] < 0.01
    both = {c.metric: c.value.estimate for c in session.compare(cell)}
    assert both["kl:austen"] > compared["kl:austen"]
    assert session.compare(replace(cell, evaluation="generation"))


def test_vectors_of_the_loaded_weights_serve_a_cast(session, monkeypatch):
    asked = []

    def get(self, model, plan, streams, teacher, weights):
        asked.append(weights)
        a = {site.name: torch.ones(site.module.in_features) for site in model.sites}
        return SpontaneousVectors(a, {"weights": model.weights_hash})

    monkeypatch.setattr(VectorLibrary, "get", get)
    session = SweepSession(replace(session.settings, dtype="bfloat16"))
    cast = replace(SPARSE, weights="float32", spon="trained")
    found = session.plans.vectors(cast)
    assert asked == ["loaded"]
    assert found is session.plans.vectors(replace(cast, weights="loaded"))
    assert session.plans.plan(cast).bias["0.q"].dtype == torch.float32
    own = session.plans.plan(replace(cast, spon="off"))
    assert session.plans.plan(cast).selectors == own.selectors
    told = session.plans.preparation(cast)["spon"]
    assert told["weights"] == session.models.load(MODEL).weights_hash
    residual = session.plans.vectors(replace(cast, spon="mean_residual"))
    assert residual.provenance["weights"] == session.weights.model(MODEL, "float32").weights_hash


def test_a_sweep_of_weights(sweep):
    given = ("--sparsity-sweep", "--sparsity-weights=loaded,int4-32,wanda-0.50")
    result = sweep.here(*given, "--sparsity-tasks=none", "--sparsity-spon=off", "-k=within")
    assert result.ret == pytest.ExitCode.OK
    found = {
        "-".join(str(r["cell"][n]) for n in ("weights", "method", "evaluation"))
        for r in sweep.records().values()
    }
    assert {
        f"{weights}-{method}-perplexity:austen"
        for weights in ("loaded", "int4-32", "wanda-0.5")
        for method in ("dense", "teal")
    } <= found
    result.stdout.fnmatch_lines(["*int4-32-dense *", "*wanda-0.5-teal-0.50 *"])
    summary = json.loads((sweep.report / "summary.json").read_text())
    assert summary["settings"]["weights"] == ["loaded", "int4-32", "wanda-0.5"]
    assert "tiny-random-int4-32-teal-0.50" in {c["id"] for c in summary["configurations"]}


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("int4", "*--sparsity-weights: weights int4: groups of 64 do not divide the 32 outputs*"),
        (
            "float32,bfloat16",
            "*--sparsity-weights: weights *: that is the dtype that tiny-random was loaded in*",
        ),
        ("int3", "*--sparsity-weights 'int3': weights 'int3' are not known; use loaded, int8*"),
        ("wanda-2", "*--sparsity-weights 'wanda-2': weights 'wanda-2': wanda takes a share*"),
        ("loaded,", "*--sparsity-weights 'loaded,': give a comma-separated list*"),
    ],
)
def test_bad_weights_are_one_sentence_before_any_test(sweep, given, complaint):
    result = sweep.here("--sparsity-sweep", f"--sparsity-weights={given}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {complaint}"])


def test_the_marker_takes_weights(sweep):
    sweep.pytester.makepyfile(
        """
        import pytest

        @pytest.mark.sparsity(weights=["int4-32"])
        def test_it(sparsity_configuration, sparse_model, dense_model):
            assert sparsity_configuration.weights == "int4-32"
            assert sparse_model.weights_hash != dense_model.weights_hash
        """
    )
    sweep.here().assert_outcomes(passed=1)
