"""Tasks of lm-eval: without it, and with it on a task of one's own."""

from __future__ import annotations

import importlib.util
import json
import random
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.evaluation import harness
from pytest_sparsity.evaluation.harness import HarnessTask, score_harness
from pytest_sparsity.evaluation.resolve_task import resolve_task
from pytest_sparsity.methods.attach import sparsify
from pytest_sparsity.methods.plan import Plan, Threshold

pytestmark = pytest.mark.usefixtures("one_thread")
with_lm_eval = pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None, reason="lm-eval is not installed"
)

_START = """
task: {name}
dataset_path: json
test_split: test
doc_to_text: "Q: {{{{question}}}}\\nA:"
metadata: {{version: 1.0}}
"""
_ITEMS = "dataset_kwargs: {{data_files: {{test: {data}}}}}\n"
_SHOTS = """dataset_kwargs: {{data_files: {{test: {data}, train: {data}}}}}
fewshot_split: train
num_fewshot: 2
"""
_CHOICE = """output_type: multiple_choice
doc_to_choice: "{{{{choices}}}}"
doc_to_target: gold
"""
_METRICS = "metric_list:\n"
_METRIC = "  - {{metric: %s, aggregation: %s, higher_is_better: true}}\n"
_ACCURACY = _METRICS + _METRIC % ("acc", "mean")

CHOICE = _START + _ITEMS + _CHOICE + _ACCURACY + _METRIC % ("acc_norm", "mean")
SHOWN = _START + _SHOTS + _CHOICE + _ACCURACY
GENERATED = (
    _START
    + _ITEMS
    + """output_type: generate_until
doc_to_target: "{{{{choices[gold]}}}}"
generation_kwargs: {{until: ["\\n"], max_gen_toks: 6, do_sample: {sample}, temperature: 1.0}}
"""
    + _METRICS
    + _METRIC % ("{metric}", "{aggregation}")
)


@pytest.fixture
def task_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes a task of nine questions; data sets are cached in the test's own folder."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    data = tmp_path / "items.jsonl"
    items = [
        {"question": f"is {n} odd?", "choices": ["yes", "no", "maybe"][: 2 + n % 2], "gold": n % 2}
        for n in range(9)
    ]
    data.write_text("\n".join(json.dumps(item) for item in items))

    def write(template: str, name: str, **values: str) -> str:
        path = tmp_path / f"{name}.yaml"
        path.write_text(template.format(name=name, data=data, **values))
        return str(path)

    return write


# --- without lm-eval


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "installed", lambda: False)


@pytest.mark.usefixtures("without")
@pytest.mark.parametrize("name", ["lm-eval:mmlu", "some/task.yaml"])
def test_a_task_of_lm_eval_names_the_extra(name: str) -> None:
    with pytest.raises(SparsityError) as error:
        resolve_task(name, seed=0)
    assert str(error.value) == (
        f"task {name.removeprefix('lm-eval:')!r} needs lm-eval; install the extra: "
        "pip install 'pytest-sparsity[lm-eval]'"
    )


@pytest.mark.usefixtures("without")
def test_an_unknown_name_suggests_ours_and_the_extra() -> None:
    with pytest.raises(SparsityError) as error:
        resolve_task("chain_sum", seed=0)
    assert "unknown task 'chain_sum', did you mean 'chain_sums'?" in str(error.value)
    assert str(error.value).endswith(
        "with the extra lm-eval installed (pip install 'pytest-sparsity[lm-eval]') also its tasks"
    )


def test_names_of_ours_never_reach_lm_eval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "load", lambda *_, **__: pytest.fail("asked lm-eval"))
    assert resolve_task("gsm8k", seed=0).name == "gsm8k"
    with pytest.raises(SparsityError, match=r"task file no/such\.jsonl does not exist"):
        resolve_task("no/such.jsonl", seed=0)


# --- with it


def plain(model: Any, context: str, text: str) -> float:
    ids = torch.tensor([model.tokenizer(context + text).input_ids])
    start = len(context.encode())
    with torch.inference_mode():
        found = model.model(input_ids=ids).logits[0].log_softmax(-1)
    return sum(float(found[k - 1, ids[0, k]]) for k in range(start, ids.shape[1]))


@with_lm_eval
@pytest.mark.slow
@pytest.mark.parametrize("sparse", [False, True])
def test_a_choice_task_is_scored_as_plain_sequences(
    sparse: bool, task_file: Any, small_model: Any
) -> None:
    found = resolve_task(task_file(CHOICE, "parity"), seed=0)
    assert isinstance(found, HarnessTask)
    assert (found.name, found.family, found.normalisation) == ("lm-eval:parity", "user", "char")
    assert found.chance == 5 / 9  # always yes is better than guessing: (5 / 2 + 4 / 3) / 9
    assert sorted(found.items) == [("parity", n) for n in range(9)]
    model = small_model("llama")
    if sparse:
        sparsify(model, Plan("t", 0.5, {site.name: Threshold(0.4) for site in model.sites}))
    some = found.items[:5]
    scored = score_harness(model, found, some, share=True)
    assert [each["id"] for each in scored] == [f"parity/{n}" for _, n in some]
    for (_, n), each in zip(some, scored, strict=True):
        choices = ["yes", "no", "maybe"][: 2 + n % 2]
        scores = [plain(model, f"Q: is {n} odd?\nA:", f" {choice}") for choice in choices]
        assert each["right"] == (scores.index(max(scores)) == n % 2)
        per_char = [s / len(c) for s, c in zip(scores, choices, strict=True)]
        assert each["right_normalised"] == (per_char.index(max(per_char)) == n % 2)
    again = score_harness(model, found, found.items, share=True)
    assert again[:5] == scored


@with_lm_eval
@pytest.mark.slow
def test_every_model_is_shown_the_same_shots(
    task_file: Any, small_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """lm-eval draws on where it stopped: its second model would be asked something else."""
    from pytest_sparsity.evaluation.harness_model import HarnessModel

    asked: list[str] = []
    span = HarnessModel._span

    def spy(self: Any, context: str, continuation: str) -> Any:
        asked.append(context)
        return span(self, context, continuation)

    monkeypatch.setattr(HarnessModel, "_span", spy)
    found = resolve_task(task_file(SHOWN, "shown"), seed=0)
    assert isinstance(found, HarnessTask)
    model = small_model("llama")
    first, second = (score_harness(model, found, found.items[:3], share=True) for _ in range(2))
    half = len(asked) // 2
    assert asked[0].count("Q: ") == 3
    assert asked[:half] == asked[half:]
    assert first == second


@with_lm_eval
@pytest.mark.slow
def test_choices_that_a_task_shuffles_are_the_same_every_time(
    task_file: Any, tmp_path: Path, small_model: Any
) -> None:
    """As gpqa does: whenever its questions are read, and with nobody's seed."""
    (tmp_path / "shuffling.py").write_text(
        "import random, datasets\n"
        "def process(docs):\n"
        "    letters = ['a', 'b', 'c', 'd', 'e']\n"
        "    shuffled = [{**doc, 'choices': random.sample(letters, 5)} for doc in docs]\n"
        "    return datasets.Dataset.from_list(shuffled)\n"
    )
    template = CHOICE.replace(
        "output_type", "process_docs: !function shuffling.process\noutput_type", 1
    )
    path = task_file(template, "shuffled")
    found = resolve_task(path, seed=0)
    random.random()  # whatever else draws
    again = resolve_task(path, seed=0)
    assert isinstance(found, HarnessTask)
    other = resolve_task(path, seed=1)
    assert isinstance(other, HarnessTask)
    assert found.hash == again.hash != other.hash
    assert found.items != other.items
    assert set(found.items) == set(other.items)
    model = small_model("llama")
    first = score_harness(model, found, found.items, share=True)
    random.random()
    state = random.getstate()
    assert score_harness(model, again, again.items, share=True) == first
    assert random.getstate() == state


@dataclass
class Shots:
    samples: Any


def described(shots: list[str], **config: Any) -> str:
    task = SimpleNamespace(config=SimpleNamespace(**config))
    return harness._described({"t": task}, {"t": shots}, {"t": ["question"]})


def test_what_a_model_is_shown_and_when_it_stops_are_in_the_hash() -> None:
    plain = described([], until=["a"])
    assert described([], until=["b"]) != plain
    places = {"dataset_kwargs": {"data_dir": "/here"}, "metadata": {"config_source": "/here"}}
    assert described([], until=["a"], **places) == plain
    assert described(["shot"], until=["a"]) != plain
    assert described([], until=["a"], generation_kwargs={"max_gen_toks": 5}) != plain
    one, other = (described([], fewshot_config=Shots([text])) for text in ("one", "other"))
    assert one != other
    code = [described([], fewshot_config=Shots(lambda: ["x"])) for _ in range(2)]
    assert code[0] == code[1]


@with_lm_eval
@pytest.mark.slow
def test_a_generation_task_runs(task_file: Any, small_model: Any) -> None:
    found = resolve_task(
        task_file(GENERATED, "answers", sample="false", metric="exact_match", aggregation="mean"),
        seed=0,
    )
    assert (found.chance, found.normalisation) == (0.0, "sum")
    scored = score_harness(small_model("llama"), found, found.items, share=True)
    assert len(scored) == 9
    assert all(each["right"] is False for each in scored)


@with_lm_eval
@pytest.mark.slow
@pytest.mark.parametrize(
    ("sample", "metric", "aggregation", "message"),
    [
        ("true", "exact_match", "mean", "task lm-eval:bad samples its answers"),
        ("false", "bleu", "bleu", "cannot be measured: lm-eval scores it by 'bleu'"),
    ],
)
def test_what_cannot_be_compared_item_by_item_is_refused(
    sample: str, metric: str, aggregation: str, message: str, task_file: Any, small_model: Any
) -> None:
    values = {"sample": sample, "metric": metric, "aggregation": aggregation}
    found = resolve_task(task_file(GENERATED, "bad", **values), seed=0)
    with pytest.raises(SparsityError, match=message):
        score_harness(small_model("llama"), found, found.items[:2], share=True)


@with_lm_eval
@pytest.mark.slow
def test_bad_names_and_missing_data(task_file: Any, tmp_path: Path) -> None:
    with pytest.raises(SparsityError, match=r"unknown task 'hellaswagg'.*did you mean 'hellaswag'"):
        resolve_task("hellaswagg", seed=0)
    with pytest.raises(SparsityError, match=r"task file no/such\.yaml does not exist"):
        resolve_task("no/such.yaml", seed=0)
    path = task_file(CHOICE, "lost")
    (tmp_path / "items.jsonl").unlink()
    with pytest.raises(SparsityError, match=r"lm-eval cannot load task .* its data come from"):
        resolve_task(path, seed=0)


@with_lm_eval
def test_the_likelihood_of_nothing_is_refused(small_model: Any) -> None:
    """It is 1, so that an empty choice would be the answer to every question."""
    from pytest_sparsity.evaluation.harness_model import HarnessModel

    model = HarnessModel(small_model("llama"), "mine", share=True)
    requests = [SimpleNamespace(args=("Q: odd?", text)) for text in (" yes", "")]
    assert len(model.loglikelihood(requests[:1])) == 1
    with pytest.raises(SparsityError, match="task mine asks for the likelihood of an empty text"):
        model.loglikelihood(requests)


@with_lm_eval
@pytest.mark.parametrize(
    ("first", "windows"),
    [
        (
            (),
            [(range(0), range(15)), (range(14, 15), range(15, 30)), (range(24, 30), range(30, 40))],
        ),
        (
            (7,),
            [(range(0), range(14)), (range(13, 14), range(14, 28)), (range(25, 28), range(28, 40))],
        ),
    ],
)
def test_windows_of_a_long_text_start_with_what_the_model_needs(
    small_model: Any, first: tuple[int, ...], windows: list[tuple[range, range]]
) -> None:
    from pytest_sparsity.evaluation.harness_model import HarnessModel

    model = replace(small_model("llama", max_position_embeddings=16), first_tokens=first)
    text = "forty characters of text in one long row"
    tokens = model.tokenizer(text).input_ids
    expected = 0.0
    for context, following in windows:
        # Where nothing must be first, EOS stands before the first token of a text.
        lead = first or (() if context else (model.tokenizer.eos_token_id,))
        before, after = [*lead, *(tokens[n] for n in context)], [tokens[n] for n in following]
        ids = torch.tensor([[*before, *after]])
        likelihoods = model.model(ids).logits[0].log_softmax(-1)
        rows = torch.arange(len(before) - 1, ids.shape[1] - 1)
        expected += float(likelihoods[rows, torch.tensor(after)].sum())
    adapter = HarnessModel(model, "some", share=True)
    (found,) = adapter.loglikelihood_rolling([SimpleNamespace(args=(text,))])
    assert found == pytest.approx(expected, abs=1e-4)
