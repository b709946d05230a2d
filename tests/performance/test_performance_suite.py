"""The bundled performance suite runs, reports and judges."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest
import torch

from pytest_sparsity.core.statistics import Interval
from pytest_sparsity.evaluation.perplexity import Window
from pytest_sparsity.sweep.verdict import Outcome

SUITE = Path(__file__).parents[2] / "suites" / "performance"
EVALUATION = SUITE / "test_sparsity_evaluation_cost.py"


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Children run as if there were no pytest-xdist, on one core: workers share the machine."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER_COUNT", raising=False)
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    yield
    os.sched_setaffinity(0, cores)


@pytest.fixture(scope="module")
def suite() -> Any:
    """The suite's module."""
    spec = importlib.util.spec_from_file_location("performance_suite", EVALUATION)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.usefixtures("alone")
def test_suite_reports_what_it_measures(sweep: Any) -> None:
    result = sweep.apart("-Werror", "-rs", "--junitxml=junit.xml", str(EVALUATION))
    result.assert_outcomes(passed=1, skipped=2)
    result.stdout.fnmatch_lines(
        [
            "*= sparsity performance =*",
            "tiny-random: sparse scoring takes * times as long as dense: 1 *sparsifying*",
            "tiny-random: dense scoring * tokens/s, bare transformers *, at least 0.95 asked",
            "tiny-random: peak memory * times the weights *; at most 3.0 allowed",
            "SKIPPED*inconclusive, tiny-random is too small to tell: *",
        ]
    )
    told = json.loads((sweep.report / "performance.json").read_text())
    measured = told["models"]["tiny-random"]
    assert list(measured) == ["dense scoring", "sparse scoring", "memory"]
    speed, cost = measured["dense scoring"], measured["sparse scoring"]
    assert speed["speed_low"] <= speed["speed"] <= speed["speed_high"]
    assert {len(seconds) for seconds in speed["seconds"].values()} == {speed["rounds"]}
    assert cost["cost_low"] <= cost["cost"] <= cost["cost_high"]
    assert {"sparsifying", "divergence", "counting", "dense hidden states"} < cost.keys()
    properties = {
        each.get("name"): each.get("value")
        for each in ElementTree.parse(sweep.pytester.path / "junit.xml").iter("property")
    }
    assert float(properties["dense scoring speed"]) == speed["speed"]
    assert float(properties["memory peak"]) == measured["memory"]["peak"]


@pytest.mark.slow
@pytest.mark.usefixtures("alone")
def test_suite_times_kernels_and_decoding(sweep: Any) -> None:
    kernels = ("-k", "kernel_speed and small or decod")
    result = sweep.apart("-Werror", "-rs", *kernels, "--sparsity-profile=smoke", str(SUITE))
    assert {**result.parseoutcomes(), "deselected": 0} == {
        "passed": 4,
        "skipped": 1,
        "deselected": 0,
    }
    result.stdout.fnmatch_lines(
        [
            "tiny-random: decoding with 1 thread(s) * tokens/s with teal 0.5 *, at least 1.5 *",
            "tiny-random: greedy text in float32 is that of masked layers for 2 of 2 prompts*",
            "kernels: sparse_linear 512x1024, one thread, cold weights, * rounds, *",
            "*dense: torch F.linear * us (median *), cpu row-dot *",
            "SKIPPED*this process may use 1 core(s)",
        ]
    )
    told = json.loads((sweep.report / "performance.json").read_text())
    measured = told["models"]["kernels"]["sparse_linear 512x1024"]
    found = measured["cpu at 75%"]
    assert found["best_dense"] in measured["seconds"]
    assert found["against_best"][1] <= found["against_best"][0] <= found["against_best"][2]


@pytest.mark.slow
def test_no_times_from_a_shared_machine(sweep: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "2")
    # The gate's timings take turns instead.
    result = sweep.apart("-rs", "-k", "not test_speed", str(SUITE))
    assert set(result.parseoutcomes()) == {"skipped", "deselected"}
    result.stdout.fnmatch_lines(["SKIPPED*with the machine to oneself: run with -n 0"])
    assert not (sweep.report / "performance.json").exists()


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (0.95, 1.2, Outcome.PASS),
        (0.94, 1.2, Outcome.INCONCLUSIVE),
        (0.80, 0.95, Outcome.INCONCLUSIVE),
        (0.80, 0.94, Outcome.FAIL),
    ],
)
def test_the_whole_interval_decides(low: float, high: float, outcome: Outcome) -> None:
    assert Outcome.at_least(0.95, Interval((low + high) / 2, low, high, 10)) is outcome
    assert Outcome.at_most(-0.95, Interval(-(low + high) / 2, -high, -low, 10)) is outcome


def test_verdicts_become_outcomes(suite: Any) -> None:
    large = _model(suite.MEANINGFUL)
    suite._conclude(large, Outcome.PASS, "the numbers")
    with pytest.raises(AssertionError, match=r"^the numbers"):
        suite._conclude(large, Outcome.FAIL, "the numbers")
    with pytest.raises(pytest.skip.Exception, match=r"^inconclusive: the numbers$"):
        suite._conclude(large, Outcome.INCONCLUSIVE, "the numbers")
    with pytest.raises(pytest.skip.Exception, match=r"^inconclusive, small is too small"):
        suite._conclude(_model(suite.MEANINGFUL - 1), Outcome.FAIL, "the numbers")


def test_times_are_compared_of_equal_work_only(suite: Any, tiny: Any) -> None:
    windows = [Window(str(n), torch.arange(n, n + 32)) for n in range(4)]
    suite._check_same(tiny, windows)
    broken = tiny.twin()
    broken.model.lm_head = torch.nn.Linear(64, 257, bias=False).requires_grad_(False)
    # What our scores use, cached: the right head, which the other is not a module before.
    broken.__dict__.update(head=tiny.head, before_head=None)
    with pytest.raises(AssertionError):
        suite._check_same(broken, windows)


def _model(size: int) -> Any:
    weights = torch.empty(size, dtype=torch.uint8, device="meta")
    return SimpleNamespace(name="small", model=SimpleNamespace(parameters=lambda: [weights]))
