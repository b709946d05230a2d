"""``--sparsity-plan``: told before a run, from what is stored; nothing is measured or written."""

from __future__ import annotations

import json
import re

import pytest

PLAN = "--sparsity-plan"


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def budgeted(finished):
    """A finished run, and a budget for one of its metrics."""
    finished.pytester.path.joinpath("budgets.toml").write_text(
        'schema = 1\n[[budget]]\nmodel = "tiny-random"\nmethod = "teal"\nlevel = 0.5\n'
        'spon = "off"\nmetric = "perplexity:austen"\nmax = 0.5\n'
    )
    return finished


@pytest.mark.parametrize("more", [(), ("-n2",), ("--collect-only", "-q"), ("-p", "no:terminal"),
                                  ("-W", "error"), ("--sparsity-sweep", "-p", "no:xdist")],
                         ids=" ".join)  # fmt: skip
def test_a_plan_is_printed_in_place_of_a_run(budgeted, monkeypatch, more):
    from pytest_sparsity.sweep.model_store import ModelStore

    def loads(*_):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(ModelStore, "load_all", loads)
    budgeted.pytester.makepyfile("def test_runs():\n    raise AssertionError")
    before = files(budgeted.pytester.path)
    result = budgeted.here(PLAN, "--sparsity-budgets=budgets.toml", *more)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "9 cells of tiny-random, 1 decisions. Nothing was measured or written.",
            "Cells, and time on this machine (*) if nothing stored is reused",
            "perplexity:austen * 3 * 3  12, 24 documents * s * s",
            "all * 9 * 9 *",
            "Smallest effect found in 90 % of runs, by how it is decided*",
            "perplexity:austen *",
            "tiny-random, austen: smallest effect found in 90 % of runs, alone | in the run",
            "teal-0.50 * | *",
            "Spread between documents and items: sparsity-report.",
        ]
    )
    assert "passed" not in result.stdout.str()
    assert "look that find" not in result.stdout.str()
    assert files(budgeted.pytester.path) == before


def test_time_is_that_of_the_records(finished):
    path = finished.report / "records.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record in records:
        (units,) = (v for v in record["measured"].values() if v and isinstance(v, list))
        each = 1.0 if record["cell"]["evaluation"] == "task:sva" else 60.0
        record["cost"]["seconds"] = each * len(units)
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    text = finished.here(PLAN).stdout.str()
    assert re.search(r"^task:sva +3 +3  24 items +72 s +72 s$", text, re.M)
    assert re.search(r"^perplexity:austen +3 +3  12 documents +36 min +36 min$", text, re.M)


def test_other_machines_say_nothing_of_time(finished):
    path = finished.report / "records.jsonl"
    lines = path.read_text().splitlines()
    key = json.loads(lines[0])["key"]["target"]
    from pytest_sparsity.sweep.record import Record

    moved = []
    for line in lines:
        record = Record.from_json(line)
        other = {**record.key, "target": "cpu-elsewhere"}
        moved.append(Record(record.cell, other, record.measured, record.cost, record.when))
    path.write_text("".join(f"{record.to_json()}\n" for record in moved))
    result = finished.here(PLAN)
    assert key not in path.read_text()
    result.stdout.fnmatch_lines(["all * 9 * 9 * [?] * [?]", "Time is unknown for 9 of 9 cells*"])
    assert "smallest effect found" in result.stdout.str()  # documents differ as much anywhere


def test_a_wanted_effect_and_how_much_it_takes(budgeted):
    result = budgeted.here(f"{PLAN}=0.02", "--sparsity-budgets=budgets.toml")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "tiny-random, austen: documents at the first look that find 0.02, alone | in the run",
            "teal-0.50 * | *",
            "tiny-random, accuracy in points: items at the first look that find 0.02, alone*",
            "0.02 is 2 %, 0.02 nats, and 2 of a hundred points.*",
        ]
    )


def test_nothing_stored_is_said(sweep):
    result = sweep.here(PLAN)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["all * 9 * 0 * [?] * [?]", "Time is unknown for 9 of 9 cells*",
         "What 6 cells can show is unknown, as nothing is stored of them*"]
    )  # fmt: skip
    assert "mallest effect" not in result.stdout.str()
    assert not sweep.report.exists()


#: The small grid without its model.
SMALL = ("--sparsity-suite=accuracy", "--sparsity-profile=smoke", "--sparsity-corpora=austen",
         "--sparsity-tasks=sva", "--sparsity-spon=off")  # fmt: skip


def test_the_default_model_is_known_from_a_named_machine(sweep):
    result = sweep.pytester.runpytest_inprocess(PLAN, *SMALL)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "6 cells of smollm2-135m, 5 decisions.*",
            "perplexity:austen * 0  12, 24 documents * [?]*",
            "perplexity:austen * [0-9]*",
            "*figures of this package, measured on AMD EPYC*",
        ]
    )


def test_a_folder_of_the_default_models_name_is_another_model(sweep, model_folder):
    other = model_folder.rename(model_folder.with_name("smollm2-135m"))
    result = sweep.pytester.runpytest_inprocess(PLAN, *SMALL, f"--sparsity-model={other}")
    result.stdout.fnmatch_lines(["What 3 cells can show is unknown*"])


def test_the_gate_is_part_of_the_run(finished):
    stored = finished.pytester.path / "stored"
    finished.report.rename(stored)
    result = finished.here(PLAN, "--sparsity-gate=fail", "--sparsity-baseline=stored")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["9 cells of tiny-random, 9 decisions.*", "Unknown for 9 other decisions, as no two*"]
    )


def test_damaged_and_foreign_lines_are_told(finished):
    with (finished.report / "records.jsonl").open("a") as stream:
        stream.write('{"schema": 99}\n{"schema": 1, "cel')
    result = finished.here(PLAN)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["WARNING: *records.jsonl: 2 lines are damaged *"])


@pytest.mark.parametrize(
    ("field", "value"),
    [("kl", float("nan")), ("id", "twice"), ("kl", "x"), ("tokens", None)],
)
def test_damaged_values_are_told_and_left_out(finished, field, value):
    path = finished.report / "records.jsonl"
    lines = []
    for line in path.read_text().splitlines():
        record = json.loads(line)
        if record["cell"]["evaluation"] == "perplexity:austen":
            for document in record["measured"]["documents"]:
                document[field] = value
        lines.append(json.dumps(record))
    path.write_text("\n".join(lines) + "\n")
    result = finished.here(PLAN)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["WARNING: *damaged*", "What 2 cells can show is unknown*"])
    assert "tiny-random, austen:" not in result.stdout.str()


def test_help_is_shown_in_place_of_a_plan(pytester):
    pytester.runpytest_inprocess(PLAN, "--help").stdout.fnmatch_lines(["usage: *"])


def test_what_hooks_offer_is_planned_too(sweep):
    sweep.pytester.makeconftest(
        """
        from pytest_sparsity.hooks import make_task

        def pytest_sparsity_tasks():
            items = [{"context": f"{n}", "choices": ["a", "b"], "gold": 0} for n in range(30)]
            return [make_task("own", items)]
        """
    )
    result = sweep.here(PLAN, "--sparsity-tasks=own")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["task:own * 3 * 0  24 items *"])


def test_suites_without_cells(sweep):
    result = sweep.here(PLAN, "--sparsity-suite=kernels")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["--sparsity-plan is about the accuracy suite, and not about kernels; add*"]
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((f"{PLAN}=2",), ("--sparsity-plan '2'", "--sparsity-plan=0.01")),
        ((f"{PLAN}=-1",), ("--sparsity-plan '-1'",)),
        ((f"{PLAN}=nan",), ("--sparsity-plan 'nan'",)),
        ((PLAN, "tests"), ("--sparsity-plan 'tests'", "behind the paths")),
        ((PLAN, "--sparsity-model=nope"), ("--sparsity-model 'nope'", "known are")),
        ((PLAN, "--sparsity-model=/no/such"), ("does not exist",)),
        ((PLAN, "--sparsity-tasks=nope", "-n2"), ("--sparsity-tasks", "'nope'")),
        ((PLAN, "--sparsity-corpora=nope"), ("--sparsity-corpora", "'nope'")),
        ((PLAN, "--sparsity-calibration=nope"), ("--sparsity-calibration", "'nope'")),
        ((PLAN, "--sparsity-methods=nope"), ("--sparsity-methods", "'nope'")),
        ((PLAN, "--sparsity-levels=7"), ("--sparsity-levels", "'7'")),
        ((PLAN, "--sparsity-budgets=nope.toml"), ("nope.toml",)),
        ((PLAN, "--sparsity-report=a_file"), ("a_file", "name another folder")),
        ((PLAN, "--sparsity-baseline=nope", "--sparsity-gate=fail"), ("nope", "no such folder")),
        ((PLAN, "--sparsity-resume"), ("--sparsity-resume", "no run")),
    ],
    ids=" ".join,
)
def test_mistakes_are_one_sentence(sweep, assert_refused, options, words):
    (sweep.pytester.path / "a_file").write_text("")
    assert_refused(sweep.here(*options), *words)
    assert not sweep.report.exists()


def test_a_resumed_run_is_planned_with_its_options(finished):
    result = finished.here(PLAN, "--sparsity-resume", "--sparsity-spon=off")
    result.stdout.fnmatch_lines(["9 cells of tiny-random, *"])
