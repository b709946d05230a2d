"""benchmark.json is read by pytest-benchmark's own commands, and has what others look for."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_sparsity.speed.gate.benchmark_json import benchmark_json
from pytest_sparsity.speed.gate.result import Measured

MEASURED = Measured(
    name="sparse_linear/cpu",
    seconds=tuple(1e-3 + 1e-5 * (n % 7) for n in range(30)),
    iterations=12,
    processes=(30,),
    bytes=1 << 20,
    peak_bytes=None,
    target="cpu-1",
    device="A processor",
    threads=1,
    versions={"torch": "2.13.0"},
    case="rows=1 k=256 n=512",
    source="abc",
    test="suites/performance/test_sparsity_gate.py::test_speed[sparse_linear/cpu]",
    static_metrics={"weight_bytes": 4096},
)


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """A report folder with two kernels, one of them timed once."""
    once = replace(MEASURED, name="compact/cpu", seconds=(2e-6,), processes=(1,))
    text = benchmark_json([MEASURED, once], "2026-01-01T00:00:00+00:00", tmp_path)
    (tmp_path / "benchmark.json").write_text(text)
    return tmp_path


def command(*words: str, cwd: Path) -> str:
    """Run pytest-benchmark's command of this environment, which warns where it cannot read."""
    program = Path(sys.executable).with_name("pytest-benchmark")
    if not program.exists():
        program = Path(shutil.which("pytest-benchmark") or program)
    done = subprocess.run([str(program), *words], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Failed to load" not in done.stderr + done.stdout
    return done.stdout


@pytest.mark.slow
def test_compare_reads_it(report):
    text = command("compare", str(report / "benchmark.json"), cwd=report)
    assert "benchmark 'sparse_linear': 1 tests" in text
    assert "test_speed[sparse_linear/cpu-rows=1 k=256 n=512]" in text
    assert "test_speed[compact/cpu-rows=1 k=256 n=512]" in text


@pytest.mark.slow
def test_compare_two_runs(report):
    slow = replace(MEASURED, seconds=tuple(2 * s for s in MEASURED.seconds))
    (report / "other.json").write_text(benchmark_json([slow], "2026-01-02T00:00:00", report))
    files = [str(report / name) for name in ("benchmark.json", "other.json")]
    text = command("compare", "--group-by=fullname", "--columns=min", *files, cwd=report)
    assert "(2.00)" in text


@pytest.mark.slow
def test_list_reads_it(report):
    assert "benchmark.json" in command("--storage", str(report), "list", cwd=report)


def test_numbers_are_those_of_the_samples(report):
    first, once = json.loads((report / "benchmark.json").read_text())["benchmarks"]
    assert first["stats"]["data"] == list(MEASURED.seconds)
    assert first["stats"]["min"] == 1e-3
    assert first["stats"]["rounds"] == 30
    assert first["stats"]["iterations"] == 12
    assert first["extra_info"]["best"] == MEASURED.best
    assert first["extra_info"]["weight_bytes"] == 4096
    assert "peak_bytes" not in first["extra_info"], "nobody measured it"
    assert once["stats"]["stddev"] == 0


def test_github_action_benchmark_finds_what_it_reads(report):
    """Its extractPytestResult takes fullname, stats.ops, stddev, mean and rounds."""
    content = json.loads((report / "benchmark.json").read_text())
    for benchmark in content["benchmarks"]:
        assert isinstance(benchmark["fullname"], str)
        stats = benchmark["stats"]
        assert all(isinstance(stats[name], float) for name in ("ops", "stddev", "mean"))
        assert isinstance(stats["rounds"], int)
        assert stats["ops"] == pytest.approx(1 / stats["mean"])
    names = [benchmark["fullname"] for benchmark in content["benchmarks"]]
    assert len(set(names)) == len(names)


def test_bencher_finds_what_it_reads(report):
    """Its python_pytest adapter takes two objects, and fullname, median and iqr as floats."""
    content = json.loads((report / "benchmark.json").read_text())
    assert isinstance(content["machine_info"], dict)
    assert isinstance(content["commit_info"], dict)
    for benchmark in content["benchmarks"]:
        assert 0 < len(benchmark["fullname"]) <= 1024
        assert all(type(benchmark["stats"][name]) is float for name in ("median", "iqr"))


def test_same_keys_as_pytest_benchmark_writes(report, pytester, monkeypatch):
    # It writes nothing in a worker of pytest-xdist, and takes its children for one.
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT"):
        monkeypatch.delenv(name, raising=False)
    pytester.makepyfile("def test_x(benchmark):\n    benchmark(sum, [1, 2])")
    options = ("--benchmark-json=own.json", "-p", "no:cacheprovider", "--benchmark-max-time=0.01")
    pytester.runpytest_subprocess(*options).assert_outcomes(passed=1)
    own = json.loads((pytester.path / "own.json").read_text())
    ours = json.loads((report / "benchmark.json").read_text())
    assert set(ours) == set(own)
    assert set(ours["commit_info"]) == set(own["commit_info"])
    assert set(ours["machine_info"]) == set(own["machine_info"])
    assert set(ours["benchmarks"][0]) == set(own["benchmarks"][0])
    assert set(ours["benchmarks"][0]["stats"]) >= set(own["benchmarks"][0]["stats"])


TEST = """
def test_two(paired_benchmark):
    paired_benchmark({"sum": lambda: sum(range(99)), "list": lambda: list(range(99))}, rounds=20)
"""


@pytest.mark.slow
def test_a_test_that_times_writes_it(pytester, sparsity_cache):
    """Also without a sweep, and beside the fixture of pytest-benchmark."""
    pytester.makepyfile(TEST, test_own="def test_own(benchmark): benchmark(sum, [1])")
    history = pytester.path / "h.jsonl"
    options = (f"--sparsity-cache={sparsity_cache}", f"--sparsity-history={history}")
    pytester.runpytest_subprocess(*options).assert_outcomes(passed=2)
    content = json.loads((pytester.path / "sparsity-report" / "benchmark.json").read_text())
    assert [b["params"]["kernel"] for b in content["benchmarks"]] == ["sum", "list"]
    assert content["benchmarks"][0]["fullname"].endswith(".py::test_two[sum]")
    (line,) = history.read_text().splitlines()
    assert list(json.loads(line)["seconds"]) == ["sum"]
