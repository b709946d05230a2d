"""How a sweep runs: selection, pytest's own options, workers, reuse, and the exit status."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from pytest_sparsity.core.exit_codes import ExitCode

SWEEP = "--sparsity-sweep"
BUDGETS = (SWEEP, "-k", "within_budget")


def measured(records):
    return {id: record["measured"] for id, record in records.items()}


def test_finished_run_leaves_its_results(finished):
    names = {path.name for path in finished.report.iterdir()}
    assert {"records.jsonl", "settings.json", "summary.json", "summary.md"} <= names
    assert {path.suffix for path in finished.report.glob("accuracy-*")} == {".png", ".svg"}
    assert len(finished.records()) == 9


def test_plain_rerun_reuses_every_cell(finished):
    before = (finished.report / "records.jsonl").read_bytes()
    result = finished.here(*BUDGETS)
    assert result.ret == 0
    assert finished.reused(result) == 9
    result.stdout.fnmatch_lines(
        ["*= sparsity =*", "tiny-random: Perplexity on austen*", f"*results in {finished.report}"]
    )
    assert (finished.report / "records.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    "options",
    [
        ("-p", "no:cacheprovider"),
        ("-p", "no:xdist"),
        ("-p", "no:terminal"),
        ("-p", "no:hypothesispytest", "-p", "no:benchmark"),
        ("-W", "error"),
        ("--capture=no",),
        ("--import-mode=importlib",),
        ("--strict-markers", "--strict-config"),
    ],
    ids=lambda options: "".join(options),
)
def test_with_pytest_options(finished, options):
    result = finished.here(*BUDGETS, *options)
    assert result.ret == 0
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


def test_quiet_says_little(finished):
    result = finished.here(*BUDGETS, "-q")
    assert result.ret == 0
    assert finished.reused(result) == 0
    assert "1/9]" not in result.stdout.str()
    result.stdout.fnmatch_lines(["*perplexity*"])


def test_verbose_names_every_test(finished):
    result = finished.here(*BUDGETS, "-v")
    result.stdout.fnmatch_lines(
        ["*test_within_budget[[]tiny-random-teal-0.50-task:sva[]] SKIPPED*"]
    )


def test_two_workers_give_the_records_of_one_process(sweep, finished_report, read_records):
    sweep.report.mkdir()
    (sweep.report / "records.jsonl").write_text("not a record\n")
    result = sweep.apart(*BUDGETS, "-n2", "--junitxml=out.xml")
    assert result.ret == 0
    assert result.stdout.str().count("is damaged in line 1: ignored") == 1  # not once per worker
    lines = (sweep.report / "records.jsonl").read_text().splitlines(keepends=True)
    (sweep.report / "records.jsonl").write_text("".join(lines[1:]))
    result.stdout.fnmatch_lines(["2 workers [[]9 items[]]*"])
    for number in range(1, 10):
        result.stdout.fnmatch_lines([f"[[]{number}/9[]] *"])
    assert measured(sweep.records()) == measured(read_records(finished_report))
    assert (sweep.report / "summary.md").exists()
    junit = ET.parse(sweep.pytester.path / "out.xml")
    names = {p.get("name") for p in junit.iter("property")}
    assert {"perplexity:austen", "accuracy:sva", "path:generation"} <= names


def test_collect_only_loads_no_model(sweep):
    result = sweep.here(SWEEP, "--collect-only", "-q", "--sparsity-model=smollm2-135m")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*test_within_budget[[]smollm2-135m-teal-0.50-mean_residual-*"])
    assert not sweep.report.exists()


def test_sweep_with_paths_collects_only_those(finished):
    path = finished.pytester.makepyfile(
        "def test_own(sparsity_level):\n    assert sparsity_level in (0.0, 0.5)"
    )
    result = finished.here(SWEEP, path.name, "-v")
    result.assert_outcomes(passed=3)
    assert "test_within_budget" not in result.stdout.str()


def test_sweep_without_paths_ignores_testpaths(finished):
    finished.pytester.makeini("[pytest]\ntestpaths = own")
    own = finished.pytester.mkdir("own")
    (own / "test_own.py").write_text("def test_own():\n    assert False")
    result = finished.here(*BUDGETS, "-v")
    assert "test_own" not in result.stdout.str()
    assert result.stdout.str().count("test_within_budget") >= 9


def test_first_failure_stops_and_last_failed_goes_on(finished):
    budgets = "schema = 1\n" + "".join(
        f"""[[budget]]
model = "tiny-random"
method = "teal"
level = 0.5
spon = "{spon}"
metric = "kl:austen"
max = 0.0001
"""
        for spon in ("off", "mean_residual")
    )
    (finished.pytester.path / "strict.toml").write_text(budgets)
    options = (*BUDGETS, "--sparsity-budgets=strict.toml")
    first = finished.here(*options, "-x")
    assert first.ret == 1
    first.assert_outcomes(failed=1, passed=2, skipped=1, deselected=4)
    first.stdout.fnmatch_lines(
        [
            "tiny-random-teal-0.50: kl:austen +0.* [[]+0.*, +0.*] (n = 12, *): fail, "
            "budget <= 0.0001 (strict.toml)*",
        ]
    )
    assert "Traceback" not in first.stdout.str()
    again = finished.here(*options, "--lf")
    assert again.parseoutcomes()["failed"] == 1
    assert "passed" not in again.parseoutcomes()


def test_junit_properties(finished):
    finished.here(*BUDGETS, "--junitxml=out.xml")
    cases = {
        case.get("name"): {p.get("name"): p.get("value") for p in case.iter("property")}
        for case in ET.parse(finished.pytester.path / "out.xml").iter("testcase")
    }
    found = cases["test_within_budget[tiny-random-teal-0.50-perplexity:austen]"]
    assert float(found["perplexity:austen"]) > 1
    assert found["perplexity:austen verdict"] == "no budget"
    assert found["kl:austen change"].startswith("0.")
    assert "[" in found["kl:austen change"]


def test_sweep_that_selects_nothing_is_not_green(sweep):
    result = sweep.here(SWEEP, "-k", "nothing")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_own_tests_need_not_measure(sweep):
    path = sweep.pytester.makepyfile("def test_own():\n    pass")
    assert sweep.here(SWEEP, path.name).ret == pytest.ExitCode.OK


def test_bundled_suite_that_measures_nothing_is_not_green(sweep):
    result = sweep.here(SWEEP, "-k", "level_zero")
    result.assert_outcomes(passed=1, deselected=12)
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.fnmatch_lines(["ERROR: the sweep measured no sparse cell: nothing was tested"])


def test_dense_only_sweep_is_not_green(sweep):
    result = sweep.here(*BUDGETS, "--sparsity-methods=dense")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.fnmatch_lines(["ERROR: the sweep measured no sparse cell*"])


def test_update_writes_budgets_that_pass(finished):
    first = finished.here(*BUDGETS, "--sparsity-update", "--sparsity-budgets=new.toml")
    assert first.ret == 0
    again = finished.here(*BUDGETS, "--sparsity-budgets=new.toml")
    # The model of random weights is at chance in sva, which is refused as evidence.
    again.assert_outcomes(passed=6, skipped=3, deselected=4)


def test_update_file_that_cannot_be_written_is_refused_before_work(finished, assert_refused):
    (finished.pytester.path / "file").touch()
    result = finished.here(*BUDGETS, "--sparsity-update", "--sparsity-budgets=file/below.toml")
    assert_refused(result, "--sparsity-update", "cannot write", "file")


def test_a_summary_that_cannot_be_written_has_a_code_of_its_own(finished):
    (finished.report / "summary.md").unlink()
    (finished.report / "summary.md").mkdir()
    result = finished.here(*BUDGETS)
    assert result.ret == ExitCode.NOT_WRITTEN
    result.stdout.fnmatch_lines(["ERROR: cannot write *summary.md: *"])


def test_missing_trained_vectors_are_a_skip_with_the_fix(finished):
    options = ("-k", "0.50-spon-task", "-rs", "--sparsity-spon=off,trained")
    result = finished.here(SWEEP, *options)
    result.stdout.fnmatch_lines(["SKIPPED*no trained spontaneous vectors fit*--sparsity-train*"])
    result.assert_outcomes(skipped=1, deselected=12)


def test_verdict_hook(finished):
    finished.pytester.makeconftest(
        """
        def pytest_sparsity_verdict(config, verdict):
            print("seen", verdict.comparison.metric, verdict.outcome.value)
        """
    )
    result = finished.here(*BUDGETS, "-s")
    result.stdout.fnmatch_lines(["*seen kl:austen no budget"])
