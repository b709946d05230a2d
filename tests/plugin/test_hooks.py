"""What other plugins and conftest files offer is measured, and they are told what came of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

CONFTEST = '''
import json
from pathlib import Path

from torch import nn

from pytest_sparsity.hooks import OwnModel, Section, make_corpus, make_task
from pytest_sparsity.models.tiny import tiny_model, tiny_tokenizer

TOLD = Path(__file__).with_name("told.jsonl")


class OddMlp(nn.Module):
    """As Llama's, by other names."""

    def __init__(self, like):
        super().__init__()
        self.one, self.two, self.three = like.gate_proj, like.up_proj, like.down_proj

    def forward(self, x):
        return self.three(nn.functional.silu(self.one(x)) * self.two(x))


def build():
    model = tiny_model(seed=3)
    for layer in model.model.layers:
        layer.mlp = OddMlp(layer.mlp)
    return model, tiny_tokenizer()


LAYOUT = {f"{kind}_proj": kind for kind in "qkvo"}
LAYOUT |= {"mlp.one": "gate", "mlp.two": "up", "mlp.three": "down"}


def pytest_sparsity_models(config):
    return [OwnModel("odd", build, layout=LAYOUT, licence="CC0")]


def pytest_sparsity_tasks(config):
    items = [
        {"context": f"The number {n} is", "choices": [" odd", " even"], "gold": 1 - n % 2}
        for n in range(24)
    ]
    chain = [
        {"context": f"{n}+1?", "chain": f" It is {n + 1}. So:", "choices": [f" {n + 1}"], "gold": 0}
        for n in range(24)
    ]
    return [make_task("parity", items), make_task("sums", chain, kind="chain", cue="So:")]


def pytest_sparsity_corpora(config):
    def texts(word):
        return [f"{word} {n} and {n * n}. " * 150 for n in range(40)]

    return [
        make_corpus("mine", "evaluation", texts("count"), licence="CC0"),
        make_corpus("mine", "calibration", texts("learn"), licence="CC0"),
    ]


def tell(kind, what, **more):
    with TOLD.open("a") as file:
        file.write(json.dumps({"kind": kind, "what": what, **more}) + "\\n")


def pytest_sparsity_record(config, record):
    tell("record", record.cell.id, id=record.id, units=len(record.units))


def pytest_sparsity_verdict(config, verdict):
    tell("verdict", verdict.comparison.metric)


def pytest_sparsity_sections(config, verdicts):
    return [Section("Our own", f"{len(verdicts)} verdicts were looked at.")]


def pytest_sparsity_report(config, folder):
    tell("report", sorted(path.name for path in folder.iterdir()))


def pytest_sparsity_kernel_check(config, check):
    tell("check", check.kernel, status=check.status)


def pytest_sparsity_gate(config, decision):
    tell("gate", decision.id, decision=decision.decision.value)


def pytest_sparsity_finding(config, finding):
    tell("finding", finding.claim)
'''
OWN = ("--sparsity-model=odd", "--sparsity-corpora=mine", "--sparsity-calibration=mine")
OWN += ("--sparsity-tasks=parity", "--sparsity-spon=off")
CELLS = {
    f"{model}-{point}-{evaluation}"
    for model in ("tiny-random", "odd")
    for point in ("dense", "teal-0.50")
    for evaluation in ("perplexity:mine", "task:parity", "generation")
}


def told(folder: Path, kind: str) -> list[dict[str, Any]]:
    path = folder / "told.jsonl"
    lines = map(json.loads, path.read_text().splitlines()) if path.exists() else []
    return [line for line in lines if line["kind"] == kind]


@pytest.mark.slow
@pytest.mark.parametrize("processes", [(), ("-n2",)])
def test_what_is_offered_is_measured_and_told(sweep: Any, processes: tuple[str, ...]) -> None:
    sweep.pytester.makeconftest(CONFTEST)
    options = ("--sparsity-sweep", "-k", "within_budget", *OWN, *processes)
    result = sweep.apart(*options)
    folder = sweep.pytester.path
    assert result.ret == 0, result.stdout.str()
    assert {record["what"] for record in told(folder, "record")} == CELLS
    assert {record["id"] for record in told(folder, "record")} == set(sweep.records())
    metrics = [verdict["what"] for verdict in told(folder, "verdict")]
    assert {"perplexity:mine", "kl:mine", "accuracy:parity", "path:generation"} <= set(metrics)
    (report,) = told(folder, "report")
    assert {"records.jsonl", "summary.json", "summary.md", "settings.json"} <= set(report["what"])
    page = (sweep.report / "summary.md").read_text()
    assert f"## Our own\n\n{len(metrics)} verdicts were looked at.\n\n## How this was" in page
    origin = json.loads((sweep.report / "summary.json").read_text())["origin"]["data"]
    assert origin["mine (evaluation)"].startswith("CC0; ")

    again = sweep.apart(*options)
    assert sweep.reused(again) == len(CELLS)


def test_evaluations_of_a_chain_task(sweep: Any) -> None:
    sweep.pytester.makeconftest(CONFTEST)
    options = (*OWN, "--sparsity-tasks=sums,exact_match:parity", "--collect-only", "-q")
    result = sweep.here("--sparsity-sweep", "-k", "dense and within_budget", *options)
    for evaluation in ("exact_match:sums", "answer_likelihood:sums", "divergence:sums"):
        result.stdout.fnmatch_lines([f"*[[]odd-dense-{evaluation}[]]"])
    result.stdout.fnmatch_lines(["*[[]odd-dense-exact_match:parity[]]"])
    result.stdout.no_fnmatch_line("*task:sums*")


def test_checks_and_records_of_a_users_own_tests(sweep: Any) -> None:
    sweep.pytester.makeconftest(CONFTEST)
    path = sweep.pytester.makepyfile(
        """
        def test_x(degradation, kernel_check):
            degradation.measure("perplexity:mine")
            kernel_check("compact/torch", "bounds", examples=2)
        """
    )
    result = sweep.here(path.name, *OWN)
    result.assert_outcomes(passed=1)
    folder = sweep.pytester.path
    names = [record["what"] for record in told(folder, "record")]
    assert sorted(names) == [f"tiny-random-{p}-perplexity:mine" for p in ("dense", "teal-0.50")]
    (check,) = told(folder, "check")
    assert (check["what"], check["status"]) == ("compact/torch", "passed")
    assert len(told(folder, "report")) == 1


def test_gate_decisions(finished: Any) -> None:
    finished.pytester.makeconftest(CONFTEST)
    finished.report.rename(finished.pytester.path / "before")
    options = (
        "--sparsity-gate=warn",
        "--sparsity-baseline=before",
        "-k",
        "no_accuracy_lost and sva",
    )
    finished.here("--sparsity-sweep", *options)
    decisions = told(finished.pytester.path, "gate")
    content = json.loads((finished.report / "gate.json").read_text())
    assert len(decisions) == len(content["decisions"]) > 0
    assert {d["what"] for d in decisions} == {d["id"] for d in content["decisions"]}


@pytest.mark.slow
def test_findings(sweep: Any) -> None:
    sweep.pytester.makeconftest(CONFTEST)
    claim = "10-tiny-random"  # about trained vectors, of which there are none: nothing is measured
    sweep.here("--sparsity-sweep", "--sparsity-suite=claims", "-k", claim)
    (finding,) = told(sweep.pytester.path, "finding")
    assert finding["what"] == "10"


BAD = {
    "a list": ("tasks", "'parity'", "returned 'parity'; return a list of Task"),
    "a task": (
        "tasks",
        "[1]",
        "returned 1 as a Task; make it with pytest_sparsity.hooks.make_task",
    ),
    "a corpus": ("corpora", "[None]", "returned None as a Corpus; make it with"),
    "a model": ("models", "{'odd': 1}", "returned {'odd': 1}; return a list of OwnModel"),
    "a method": ("methods", "[object]", "as a Method; a method has a name"),
    "a twin": (
        "corpora",
        "2 * [make_corpus('x', 'evaluation', ['a'])]",
        "both offer a Corpus ('x', 'evaluation'); give one of them another name",
    ),
}


@pytest.mark.parametrize(("hook", "value", "words"), BAD.values(), ids=BAD)
def test_bad_values_name_the_plugin(
    sweep: Any, assert_refused: Any, hook: str, value: str, words: str
) -> None:
    sweep.pytester.makeconftest(
        f"from pytest_sparsity.hooks import make_corpus\n"
        f"def pytest_sparsity_{hook}(config):\n    return {value}\n"
    )
    result = sweep.here("--sparsity-sweep", "--sparsity-tasks=parity")
    assert_refused(result, words, "conftest.py")


def test_a_bad_section_names_the_plugin(finished: Any, assert_refused: Any) -> None:
    finished.pytester.makeconftest("def pytest_sparsity_sections(config):\n    return ['# Mine']\n")
    result = finished.here("--sparsity-sweep", "-k", "within_budget")
    assert_refused(result, "pytest_sparsity_sections of", "'# Mine' as a Section", status=11)


def test_nobody_is_told_of_a_session_without_us(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile("def test_x(): pass")
    (pytester.path / "sparsity-report").mkdir()
    pytester.runpytest_inprocess().assert_outcomes(passed=1)
    assert not (pytester.path / "told.jsonl").exists()
