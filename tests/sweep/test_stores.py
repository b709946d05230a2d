"""Every store by itself: what it makes, once, and what it leaves alone."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.progress import silent
from pytest_sparsity.evaluation.corpora import make_corpus
from pytest_sparsity.evaluation.perplexity import Window
from pytest_sparsity.methods.prefill import PrefillPolicy
from pytest_sparsity.settings.settings import Settings
from pytest_sparsity.sweep import (
    calibration_store,
    configured_model,
    dense_cache,
    model_store,
    text_store,
    weight_store,
)
from pytest_sparsity.sweep.calibration_store import CalibrationStore
from pytest_sparsity.sweep.cell import Cell, Configuration
from pytest_sparsity.sweep.configured_model import ConfiguredModel
from pytest_sparsity.sweep.dense_cache import DenseCache
from pytest_sparsity.sweep.dense_results import DenseResults
from pytest_sparsity.sweep.inputs import (
    DivergenceInputs,
    GenerationInputs,
    TaskInputs,
    TextInputs,
)
from pytest_sparsity.sweep.model_store import ModelStore
from pytest_sparsity.sweep.resolve import resolve
from pytest_sparsity.sweep.stores import Stores, make_stores
from pytest_sparsity.sweep.text_store import TextStore
from pytest_sparsity.sweep.weight_store import WeightStore

TINY = "tiny-random"
DENSE = Configuration(TINY)
SPARSE = Configuration(TINY, "teal", 0.5)


@pytest.fixture
def chosen(settings: Any, sparsity_cache: Any) -> Settings:
    return replace(
        settings,
        models=(TINY,),
        tasks=("sva", "chain_kinds"),
        cache=sparsity_cache,
        dtype="float32",
    )


@pytest.fixture
def stores(chosen: Settings) -> Stores:
    return make_stores(chosen)


@dataclass(frozen=True)
class Loaded:
    name: str
    source: str


# --- models


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Sources that were loaded; the name of a model is the last part of its source."""
    asked: list[str] = []

    def load(source: str, **_: Any) -> Loaded:
        asked.append(source)
        return Loaded(source.rpartition("/")[2], source)

    monkeypatch.setattr(model_store, "load_model", load)
    monkeypatch.setattr(model_store, "check_loaded", lambda model: None)
    return asked


def test_models_are_loaded_when_one_is_needed(chosen: Settings, loads: list[str]) -> None:
    store = ModelStore(replace(chosen, models=("a/x", "b/y")), cast(Any, None), silent, None)
    assert loads == []
    first = store.load("x")
    assert loads == ["a/x", "b/y"]
    assert store.load("x") is first
    assert loads == ["a/x", "b/y"]
    assert store.load_all()["x"] is first
    assert loads == ["a/x", "b/y"]


def test_two_models_of_one_name(chosen: Settings, loads: list[str]) -> None:
    store = ModelStore(replace(chosen, models=("a/x", "b/x")), cast(Any, None), silent, None)
    with pytest.raises(SparsityError) as caught:
        store.load_all()
    assert str(caught.value) == (
        "--sparsity-model 'b/x' and 'a/x' are both called 'x'; rename one folder"
    )


def test_files_of_others_are_held_against_every_model(
    chosen: Settings, loads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[tuple[str, str]] = []
    monkeypatch.setattr(
        model_store, "check_given", lambda given, model: checked.append((given, model.name))
    )
    settings = replace(chosen, models=("a/x", "b/y"))
    ModelStore(settings, cast(Any, None), silent, cast(Any, "given")).load_all()
    assert checked == [("given", "x"), ("given", "y")]


# --- texts


def test_text_is_read_without_a_model(chosen: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Corpora and tasks need none; windows do."""
    texts = TextStore(chosen, cast(Any, chosen.cache), silent, cast(Any, None))
    assert texts.first_corpus is texts.evaluation_corpus("austen")
    assert texts.task("sva") is texts.task_of("task:sva")
    assert len(texts.sources()) == 4  # calibration, austen, two tasks
    assert texts.available(Cell(DENSE, "task:sva")) == len(texts.task("sva").items)
    monkeypatch.setattr(text_store, "corpus", None)
    assert texts.evaluation_corpus("austen") is texts.first_corpus


def test_windows_and_tokens_of_calibration(stores: Stores) -> None:
    texts, sizes = stores.texts, stores.settings.sizes
    windows = texts.windows(TINY, "austen")
    assert {len(window.tokens) for window in windows} == {sizes.window}
    assert texts.available(Cell(DENSE, "perplexity:austen")) == len(windows)
    assert [len(prompt.tokens) for prompt in texts.prompts(TINY)] == [32] * sizes.prompts
    first, more = texts.calibration_tokens(TINY), texts.learning_tokens(TINY)
    assert len(first) == sizes.calibration
    seen = {tuple(tokens.tolist()) for tokens in first}
    assert more
    assert not seen & {tuple(tokens.tolist()) for tokens in more}
    assert all(stream.dtype == torch.int64 for stream in texts.training_streams(TINY).values())


def test_a_seed_draws_documents_prompts_and_items_and_leaves_calibration(chosen: Settings) -> None:
    zero, one = (make_stores(replace(chosen, seed=seed)).texts for seed in (0, 1))
    length = chosen.sizes.documents

    def read(texts: TextStore) -> list[set[str]]:
        windows = texts.windows(TINY, "austen")
        return [
            {window.id for window in windows[:length]},
            {prompt.id for prompt in texts.prompts(TINY)},
            {item.id for item in texts.task("sva").items[: chosen.sizes.items]},  # type: ignore[union-attr]
        ]

    assert all(a != b for a, b in zip(read(zero), read(one), strict=True))
    assert one.prompts(TINY)[0].id == one.windows(TINY, "austen")[0].id
    for a, b in zip(zero.calibration_tokens(TINY), one.calibration_tokens(TINY), strict=True):
        assert torch.equal(a, b)
    calibrated = {document.id for document in one.calibration_corpus.documents}
    assert not calibrated & {document.id for document in one.first_corpus.documents}


def test_a_seed_draws_from_hooks_and_files(chosen: Settings, tmp_path: Any) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text("\n".join(json.dumps({"text": f"text {n}"}) for n in range(40)))
    own = make_corpus("mine", "evaluation", [f"words {n}" for n in range(40)])
    for name in (str(path), "mine"):
        zero, one = (
            TextStore(
                replace(chosen, seed=seed, corpora=(name,)),
                cast(Any, chosen.cache),
                silent,
                cast(Any, None),
                own_corpora={("mine", "evaluation"): own},
            ).first_corpus.documents
            for seed in (0, 1)
        )
        assert set(zero) == set(one)
        assert set(zero[:10]) != set(one[:10])


# --- weights


def test_one_compressed_model_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def compress(model: Any, weights: str, *_: Any) -> SimpleNamespace:
        made.append(weights)
        return SimpleNamespace(model=f"{model}-{weights}", provenance={})

    monkeypatch.setattr(weight_store, "compress", compress)
    models = SimpleNamespace(load=lambda name: name)
    texts = SimpleNamespace(calibration_tokens=lambda name: [])
    store = WeightStore(cast(Any, models), cast(Any, texts), cast(Any, None), silent)
    order = ("int8", "loaded", "int8", "int4", "int8")
    assert [store.model("m", weights) for weights in order] == [
        *("m-int8", "m", "m-int8", "m-int4", "m-int8"),
    ]
    assert made == ["int8", "int4", "int8"]  # the loaded one takes no room


def test_weights_are_named_without_compressing(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = stores.weights.named(TINY, "int8")
    loaded = stores.models.load(TINY)
    assert stores.weights.named(TINY, "loaded").weights_hash == loaded.weights_hash
    assert named.model is loaded.model
    assert stores.weights.model(TINY, "int8").weights_hash == named.weights_hash


# --- calibrations


def test_what_is_prepared_together(chosen: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[tuple[list[float], list[str]]] = []

    class Calibrator:
        def __init__(self, model: Any, *_: Any, **__: Any) -> None:
            self.hash = f"hash of {model.name}"

        def prepare(self, levels: list[float], wants: Any) -> None:
            prepared.append((levels, list(wants)))

    monkeypatch.setattr(calibration_store, "Calibrator", Calibrator)
    monkeypatch.setattr(calibration_store, "wants_of", lambda method: [method])
    methods = SimpleNamespace(method=lambda name: name, given=None)
    model = SimpleNamespace(name=TINY)
    weights = SimpleNamespace(model=lambda *_: model, named=lambda *_: model)
    texts = SimpleNamespace(calibration_tokens=lambda name: [])
    store = CalibrationStore(
        chosen,
        *(cast(Any, None), silent, PrefillPolicy.parse("none")),
        *cast(Any, (methods, texts, weights)),
    )
    assert store.hash(TINY, "loaded") == "hash of tiny-random"
    assert prepared == []
    calibrator = store.prepared(TINY)
    store.expect([DENSE, Configuration(TINY, "cats", 0.25), replace(SPARSE, weights="int8")])
    assert store.prepared(TINY) is calibrator
    store.prepared(TINY, "int8")
    assert prepared == [
        ([0.4, 0.5], ["teal"]),
        ([0.25, 0.4, 0.5], ["cats", "teal"]),
        ([0.5], ["teal"]),  # these are not in the settings
    ]


# --- the configured model


def test_one_plan_is_attached_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    attached: list[tuple[str, str]] = []
    monkeypatch.setattr(
        configured_model, "sparsify", lambda *each: attached.append(each) or SimpleNamespace()
    )
    weights = SimpleNamespace(model=lambda *_: SimpleNamespace(twin=lambda: "twin"))
    plans = SimpleNamespace(plan=lambda configuration: configuration.id)
    store = ConfiguredModel(cast(Any, weights), cast(Any, plans))
    first = store.attached(SPARSE)
    assert store.attached(SPARSE)[1] is first[1]
    store.attached(replace(SPARSE, level=0.4))
    assert store.attached(SPARSE)[1] is not first[1]
    ids = ("tiny-random-teal-0.50", "tiny-random-teal-0.40", "tiny-random-teal-0.50")
    assert attached == [("twin", id) for id in ids]


def test_nothing_is_kept_while_the_next_model_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each may be as large as the machine's memory allows."""
    monkeypatch.setattr(configured_model, "sparsify", lambda twin, plan: object())
    kept = []
    weights = SimpleNamespace(
        model=lambda *_: SimpleNamespace(twin=lambda: kept.append(store._last))
    )
    plans = SimpleNamespace(plan=lambda configuration: None)
    store = ConfiguredModel(cast(Any, weights), cast(Any, plans))
    store.attached(SPARSE)
    store.attached(replace(SPARSE, level=0.4))
    assert kept == [None, None]


# --- dense results


def windows(*names: str) -> list[Window]:
    return [Window(name, torch.tensor([1, 2])) for name in names]


def test_only_fresh_text_is_computed() -> None:
    computed: list[list[str]] = []

    def compute(texts: Any) -> dict[str, str]:
        computed.append([text.id for text in texts])
        return {text.id: text.id.upper() for text in texts}

    results = DenseResults[Window, str](compute)
    assert results.of(windows("a", "b")) == {"a": "A", "b": "B"}
    assert results.of(windows("b", "c"))["c"] == "C"
    results.of(windows("a", "c"))
    assert computed == [["a", "b"], ["c"]]


def test_cells_share_the_results_of_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = []

    def states(model: str, probes: Any, *, share: bool) -> dict[str, str]:
        shared.append(share)
        return {probe.id: model for probe in probes}

    monkeypatch.setattr(dense_cache, "probe_states", states)
    monkeypatch.setattr(
        dense_cache, "continue_greedily", lambda model, prompts, steps: [[steps]] * len(prompts)
    )
    models = SimpleNamespace(load=lambda name: f"model {name}")
    dense = DenseCache(cast(Any, models), share=False, new_tokens=3)
    assert dense.states("m", "austen") is dense.states("m", "austen")
    assert dense.states("m", "austen") is not dense.states("m", "jargon")
    assert dense.probe_states("m", "sva").of(cast(Any, windows("a"))) == {"a": "model m"}
    assert shared == [False]
    assert dense.paths("m").of(windows("a", "b")) == {"a": [3], "b": [3]}


@pytest.mark.parametrize(("prefill", "share"), [("half", False), ("first:1", True)])
def test_beginnings_are_not_shared_where_the_rest_decides(
    chosen: Settings, prefill: str, share: bool
) -> None:
    assert make_stores(replace(chosen, prefill=prefill)).dense.share is share


# --- what a cell is measured from


def test_a_cell_is_resolved_without_running_the_dense_model(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: Any, **__: Any) -> None:
        pytest.fail("the dense model was run")

    for name in ("dense_states", "probe_states", "continue_greedily"):
        monkeypatch.setattr(dense_cache, name, run)
    kinds = {
        "perplexity:austen": TextInputs,
        "generation": GenerationInputs,
        "task:sva": TaskInputs,
        "answer_likelihood:chain_kinds": TaskInputs,
        "divergence:chain_kinds": DivergenceInputs,
    }
    for evaluation, kind in kinds.items():
        for configuration in (DENSE, SPARSE):
            cell = Cell(configuration, evaluation)
            inputs = resolve(stores, cell, {"seed": 0})
            assert type(inputs.evaluation) is kind
            assert (inputs.cell, inputs.key) == (cell, {"seed": 0})
            assert inputs.dense is stores.models.load(TINY)
            assert (inputs.model is inputs.dense) == (inputs.attached is None)
            assert (inputs.attached is None) == configuration.is_reference
            assert set(inputs.facts) == (set() if configuration == DENSE else {"preparation"})


def test_the_dense_model_is_compared_with_nothing(stores: Stores) -> None:
    compared = {}
    for evaluation in ("perplexity:austen", "divergence:chain_kinds"):
        for configuration in (DENSE, replace(DENSE, weights="int8"), SPARSE):
            found = resolve(stores, Cell(configuration, evaluation), {}).evaluation
            assert isinstance(found, (TextInputs, DivergenceInputs))
            compared[configuration.id, found.states is not None] = None
    assert list(compared) == [
        ("tiny-random-dense", False),
        ("tiny-random-int8-dense", True),
        ("tiny-random-teal-0.50", True),
    ]


def test_compressed_weights_say_how_they_were_made(stores: Stores) -> None:
    cell = Cell(replace(SPARSE, weights="int8"), "perplexity:austen")
    facts = resolve(stores, cell, {}).facts
    assert set(facts) == {"preparation", "compression"}
    assert facts["compression"]["scheme"] == "int8"


def test_a_key_is_made_without_compressing_or_attaching(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weight_store, "compress", None)
    monkeypatch.setattr(configured_model, "sparsify", None)
    sparse = stores.keys.of(Cell(replace(SPARSE, weights="int8"), "perplexity:austen"))
    dense = stores.keys.of(Cell(DENSE, "perplexity:austen"))
    only_sparse = {"method", "calibration", "prefill", "spon"}
    assert set(sparse) - set(dense) == only_sparse
    assert {name for name in dense if dense[name] != sparse[name]} == {"weights"}
