"""pytest-sparsity compare of what others logged: paired by item, or refused in one sentence."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_sparsity.cli.main import main
from pytest_sparsity.core.statistics import mcnemar

with_lm_eval = pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None, reason="lm-eval is not installed"
)
DATE = "2026-11-30T14-14-17.945303"


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def line(number: int, filter: str = "none", **metrics: Any) -> dict[str, Any]:
    """An item as lm-eval 0.4.13 logs it."""

    def hashed(text: str) -> str:
        return hashlib.sha256(text.encode()).hexdigest()

    return {
        "doc_id": number,
        "doc": {"question": f"is {number} odd?"},
        "target": "yes",
        "arguments": {"gen_args_0": {"arg_0": f"Q: is {number} odd?\nA:"}},
        "resps": [[f"{number} {metrics}"]],
        "filtered_resps": [f"{number} {metrics}"],
        "filter": filter,
        "metrics": list(metrics),
        "doc_hash": hashed(f"doc {number}"),
        "prompt_hash": hashed(f"prompt {number}"),
        "target_hash": hashed(f"target {number}"),
        **metrics,
    }


def write(folder: str, lines: Sequence[Any], task: str = "odd", **results: Any) -> Path:
    """Logged samples of a task, and the results beside them, where lm-eval puts them."""
    where = Path(folder) / "model__name"
    where.mkdir(parents=True, exist_ok=True)
    path = where / f"samples_{task}_{DATE}.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in lines))
    content = {
        "results": {task: {}},
        "higher_is_better": {task: {"acc": True, "exact_match": True}},
        "versions": {task: 1.0},
        "n-shot": {task: 0},
        **results,
    }
    (where / f"results_{DATE}.json").write_text(json.dumps(content))
    return path


def accuracy(right: Sequence[bool]) -> list[dict[str, Any]]:
    return [line(number, acc=float(each)) for number, each in enumerate(right)]


BEFORE = [number % 5 > 0 for number in range(200)]
WORSE = [right and number > 50 for number, right in enumerate(BEFORE)]


def compared(*words: str) -> tuple[int, list[dict[str, Any]]]:
    code = main(["compare", *words, "--json=c.json"])
    return code, json.loads(Path("c.json").read_text())["decisions"]


def test_fewer_right_is_worse():
    write("a", accuracy(BEFORE))
    write("b", accuracy(WORSE))
    code, (found,) = compared("a", "b")
    assert (code, found["decision"], found["id"]) == (1, "regressed", "odd: acc")
    figures = found["figures"]
    assert figures["p_value"] == mcnemar(BEFORE, WORSE)
    assert figures["change"] == pytest.approx((sum(BEFORE) - sum(WORSE)) / 200)
    assert (figures["before"], figures["n"]) == (0.8, 200)
    code, (found,) = compared("b", "a")
    assert (code, found["decision"]) == (0, "improved")


def test_files_are_paired_as_folders_are(capsys):
    a, b = write("a", accuracy(BEFORE)), write("b", accuracy(list(reversed(WORSE))))
    _, found = compared("a", "b")
    assert compared(str(a), str(b))[1] == found
    results = (str(each.with_name(f"results_{DATE}.json")) for each in (a, b))
    assert compared(*results)[1] == found
    capsys.readouterr()


def test_files_of_any_engine():
    """Lines with an id and a score; the order of lines is nothing."""
    for name, right in (("a", BEFORE), ("b", WORSE)):
        lines = [json.dumps({"id": f"q{n}", "score": int(r)}) for n, r in enumerate(right)]
        Path(f"{name}.jsonl").write_text("\n".join(sorted(lines, reverse=name == "b")))
    code, (found,) = compared("a.jsonl", "b.jsonl", "--metric=score")
    assert (code, found["decision"]) == (1, "regressed")


def test_each_filter_is_a_row():
    def both(right: Sequence[bool]) -> list[dict[str, Any]]:
        lines = [line(n, "strict-match", exact_match=float(r)) for n, r in enumerate(right)]
        return lines + [line(n, "flexible-extract", exact_match=1.0) for n in range(len(right))]

    write("a", both(BEFORE))
    write("b", both(WORSE))
    _, found = compared("a", "b")
    assert {each["id"]: each["decision"] for each in found} == {
        "odd: exact_match,strict-match": "regressed",
        "odd: exact_match,flexible-extract": "ok",
    }


def test_bits_per_byte_of_whole_texts():
    """Of three metrics that say the same, one; other tokenizers give the same unit."""

    def texts(factor: float) -> list[dict[str, Any]]:
        loss = [-40.0 - number for number in range(50)]
        value = [[factor * each, 50 + number] for number, each in enumerate(loss)]
        return [
            line(n, word_perplexity=[v[0], 9], byte_perplexity=v, bits_per_byte=v)
            for n, v in enumerate(value)
        ]

    write("a", texts(1.0))
    write("b", texts(1.01))
    code, (found,) = compared("a", "b")
    assert (code, found["id"], found["decision"]) == (1, "odd: bits_per_byte", "regressed")
    total = sum(40.0 + n for n in range(50)) / sum(50 + n for n in range(50)) / 0.6931471805599453
    assert found["figures"]["before"] == pytest.approx(total)
    assert found["figures"]["change"] == pytest.approx(0.01 * total)


def test_long_texts_do_not_overflow():
    for name, value in (("a", -1.0), ("b", -1500.0)):
        write(name, [line(n, perplexity=value * (1 + n / 90)) for n in range(30)])
    code, (found,) = compared("a", "b")
    assert (code, found["decision"], found["figures"]["now"]) == (1, "regressed", None)


def test_scores_that_are_better_when_lower():
    def errors(more: float) -> list[dict[str, Any]]:
        return [line(n, wer=0.1 + 0.01 * (n % 7) + more * (1 + n % 3)) for n in range(60)]

    write("a", errors(0.0))
    write("b", errors(0.1))
    assert compared("a", "b")[1][0]["decision"] == "regressed"
    assert compared("b", "a")[1][0]["decision"] == "improved"


def test_equal_to_the_last_digit():
    for name in "ab":
        write(name, accuracy(BEFORE))
    code, (found,) = compared("a", "b", "--strict")
    assert (code, found["decision"]) == (0, "ok")


def test_one_item_decides_nothing():
    write("a", accuracy([True]))
    write("b", accuracy([False]))
    code, (found,) = compared("a", "b", "--strict")
    assert (code, found["decision"]) == (10, "inconclusive")


def test_one_of_many_is_suspect():
    """Worse by itself, as one of thirty tasks may be: yellow, unless more error is asked for."""
    worse = [right and number > 14 for number, right in enumerate(BEFORE)]
    for task in range(30):
        write("a", accuracy(BEFORE), task=f"task{task}")
        write("b", accuracy(worse if task == 3 else BEFORE[::-1]), task=f"task{task}")
    for folder in ("a", "b"):
        for path in Path(folder).rglob("results_*"):
            path.unlink()
    code, found = compared("a", "b", "--strict", "--run-error=0.000001")
    (one,) = [each for each in found if each["id"] == "task3: acc"]
    assert (code, one["decision"]) == (10, "suspect")
    assert "as one of 30 decisions may be by chance" in one["reason"]
    code, found = compared("a", "b", "--run-error=0.9")
    (one,) = [each for each in found if each["id"] == "task3: acc"]
    assert (code, one["decision"]) == (1, "regressed")
    assert "holds for the run" in one["reason"]


def test_items_of_one_side_are_told():
    write("a", accuracy(BEFORE))
    write("b", accuracy(WORSE[:150]))
    _, (found,) = compared("a", "b")
    assert "150 items are in both of 150 now and 200 before" in found["reason"]
    assert found["figures"]["n"] == 150


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ("doc_hash", "item 3 is another question in the two files, and 1 of 200 do"),
        ("target_hash", "item 3 has another right answer in the two files"),
        ("prompt_hash", "item 3 has another prompt in the two files, and 1 of 200 do; add "),
    ],
)
def test_items_that_are_not_the_same(field, reason):
    other = accuracy(WORSE)
    other[3][field] = "other"
    write("a", accuracy(BEFORE))
    write("b", other)
    code, (found,) = compared("a", "b")
    assert (code, found["decision"]) == (5, "not comparable")
    assert reason in found["reason"]
    code, (found,) = compared("a", "b", "--other-prompts")
    assert code == (1 if field == "prompt_hash" else 5)


@pytest.mark.parametrize("fact", ["versions", "n-shot"])
def test_runs_of_another_kind(fact):
    write("a", accuracy(BEFORE))
    write("b", accuracy(WORSE), **{fact: {"odd": 5}})
    code, (found,) = compared("a", "b")
    assert code == 5
    assert "differ: 5 now" in found["reason"]


def test_scores_of_texts_cannot_be_paired():
    for name, answer in (("a", "x"), ("b", "y")):
        write(name, [line(n, bleu=["yes", answer]) for n in range(9)])
    code, (found,) = compared("a", "b")
    assert code == 5
    assert "bleu is not told item by item" in found["reason"]


def broken(what: str) -> Sequence[Any]:
    lines = accuracy(BEFORE)
    if what == "twice":
        lines.append(lines[7])
    elif what == "nan":
        lines[7]["acc"] = float("nan")
    elif what == "no length":
        lines = [line(0, bits_per_byte=[-3.0, 9]), line(1, bits_per_byte=[-3.0, 0])]
    elif what == "no id":
        del lines[7]["doc_id"], lines[7]["doc_hash"]
    elif what == "no metrics":
        del lines[7]["metrics"]
    elif what == "no value":
        del lines[7]["acc"]
    return [] if what == "empty" else [1] if what == "number" else lines


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("twice", "line 201 has item 7 again, which line 8 has already; keep one line per item"),
        ("nan", "line 8 has the acc nan; an item without a score cannot be compared"),
        ("no id", "line 8 has no doc_id, so its item cannot be paired"),
        ("no metrics", "line 8 does not say in `metrics` which of its fields are scores"),
        ("no value", "line 8 lacks the metric acc"),
        ("no length", "line 2 has a text of length 0 for bits_per_byte"),
        ("empty", "it is empty; run the task again"),
        ("number", "line 1 is no logged item"),
    ],
)
def test_files_that_are_refused(what, message, capsys):
    write("a", accuracy(BEFORE))
    path = write("b", broken(what))
    assert main(["compare", "a", "b"]) == 4
    (sentence,) = [s for s in capsys.readouterr().err.splitlines() if s.startswith("ERROR")]
    assert f"B {path}" in sentence
    assert message in sentence


def test_what_else_is_refused(capsys, finished_report):
    def refused(*words: str) -> str:
        assert main(["compare", *words]) == 4
        return capsys.readouterr().err

    a, other = write("a", accuracy(BEFORE)), write("b", accuracy(WORSE), task="even")
    assert "no task is in both: A has odd, B has even" in refused("a", "b")
    assert "A is logged samples and B is a report folder" in refused("a", str(finished_report))
    assert "--tasks: logged samples are not measured again" in refused("a", "b", "--tasks=sva")
    a.with_name(f"samples_odd_{DATE.replace('14-', '15-')}.jsonl").write_bytes(a.read_bytes())
    assert "is of task 'odd', too; name one of the two files" in refused("a", "b")
    other.unlink()
    assert "it holds means, and nothing of single items" in refused("a", "b")
    Path("c.jsonl").write_text('{"doc_id": 1, "acc": tru\n')
    assert "c.jsonl: line 1 is damaged" in refused("c.jsonl", "a")


# --- with lm-eval itself

TASK = """
task: {name}
dataset_path: json
test_split: test
dataset_kwargs: {{data_files: {{test: {data}}}}}
doc_to_text: "Q: {{{{question}}}}\\nA:"
metadata: {{version: 1.0}}
"""
CHOICE = """output_type: multiple_choice
doc_to_choice: "{{{{choices}}}}"
doc_to_target: gold
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_norm, aggregation: mean, higher_is_better: true}}
"""
GENERATED = """output_type: generate_until
doc_to_target: "{{{{choices[gold]}}}}"
generation_kwargs: {{until: ["\\n"], max_gen_toks: 4, do_sample: false}}
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true}}
"""


@with_lm_eval
@pytest.mark.slow
def test_two_runs_of_lm_eval(tmp_path, monkeypatch, model_folder):
    """What lm-eval itself logs of a choice and of a generated answer, of two models."""
    import lm_eval
    import torch
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    data = tmp_path / "items.jsonl"
    items = [
        {"question": f"is {n} odd?", "choices": ["yes", "no"], "gold": n % 2} for n in range(12)
    ]
    data.write_text("\n".join(json.dumps(item) for item in items))
    folder = tmp_path / "tasks"
    folder.mkdir()
    for name, kind in (("odd_choice", CHOICE), ("odd_said", GENERATED)):
        (folder / f"{name}.yaml").write_text((TASK + kind).format(name=name, data=data))
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    for run in ("a", "b"):
        model = HFLM(pretrained=str(model_folder), dtype="float32", device="cpu")
        if run == "b":
            with torch.no_grad():
                model.model.get_output_embeddings().weight.neg_()
        found = lm_eval.simple_evaluate(
            model=model,
            tasks=["odd_choice", "odd_said"],
            task_manager=manager,
            log_samples=True,
            bootstrap_iters=0,
        )
        tracker = EvaluationTracker(output_path=str(tmp_path / run))
        samples = found.pop("samples")
        tracker.save_results_aggregated(results=found, samples=samples)
        for task, own in samples.items():
            tracker.save_results_samples(task_name=task, samples=own)
    code, decisions = compared("a", "b")
    assert code in (0, 1)
    assert {each["id"]: each["decision"] != "not comparable" for each in decisions} == {
        "odd_choice: acc": True,
        "odd_choice: acc_norm": True,
        "odd_said: exact_match": True,
    }
