"""The history file: appended whole, read with care, listed and drawn."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from dataclasses import replace

import pytest

from pytest_sparsity.cli.main import main
from pytest_sparsity.core.errors import NotWritten, SparsityError, SparsityWarning
from pytest_sparsity.core.exit_codes import ExitCode
from pytest_sparsity.core.git import revision_of
from pytest_sparsity.reporting.history.entries import Entry, append, read
from pytest_sparsity.reporting.history.series import all_series

RUN = Entry(
    when="2026-01-01T02:17:00+00:00",
    target="cpu-1",
    device="A processor",
    profile="full",
    versions={"torch": "2.13.0"},
    revision="0123456789abcdef",
    seconds={"sparse_linear/cpu (rows=1)": 0.001},
    metrics={"m-teal-0.50-perplexity:austen": {"perplexity:austen": 20.0, "kl:austen": 0.1}},
)


def night(number: int, **changes) -> Entry:
    return replace(RUN, when=f"2026-{number // 28 + 1:02}-{number % 28 + 1:02}T02:00:00", **changes)


@pytest.fixture
def history(tmp_path):
    """Twenty nights on one machine, slower from the twelfth on, and twenty on another."""
    path = tmp_path / "history.jsonl"
    for number in range(20):
        slow = 1.25 if number >= 12 else 1.0
        jitter = 1 + 0.001 * (number % 3)
        append(path, night(number, seconds={"a/cpu": 0.001 * slow * jitter}))
        append(path, night(number, target="cpu-2", device="Another", seconds={"a/cpu": 0.004}))
    return path


def test_read_what_was_appended(tmp_path):
    path = tmp_path / "new" / "h.jsonl"
    for number in range(3):
        append(path, night(number))
    assert read(path) == [night(number) for number in range(3)]
    assert [json.loads(line)["schema"] for line in path.read_text().splitlines()] == [1, 1, 1]


def test_truncated_last_line(history):
    whole = history.read_bytes()
    history.write_bytes(whole[:-30])
    with pytest.warns(SparsityWarning, match="the last line is incomplete and left out"):
        assert len(read(history)) == 39
    with pytest.warns(SparsityWarning, match="incomplete"):
        append(history, night(30))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [entry.when for entry in read(history)][-2:] == [night(19).when, night(30).when]


def test_last_line_without_its_end_of_line(history):
    history.write_bytes(history.read_bytes()[:-1])
    append(history, night(30))
    assert len(read(history)) == 41


@pytest.mark.parametrize("line", ["hello", "[]", "{}", '{"schema": 1}', '{"schema": "1"}'])
def test_damaged_in_the_middle(history, line):
    lines = history.read_text().splitlines()
    lines[3] = line
    history.write_text("\n".join(lines) + "\n")
    before = history.read_bytes()
    for use in (lambda: read(history), lambda: append(history, night(30))):
        with pytest.raises(SparsityError, match=r"history\.jsonl: line 4 is damaged"):
            use()
    assert history.read_bytes() == before


@pytest.mark.parametrize("line", [0, -1])
def test_schema_from_the_future(history, line):
    lines = history.read_text().splitlines()
    lines[line] = json.dumps({**json.loads(lines[line]), "schema": 2, "unknown": 1})
    history.write_text("\n".join(lines) + "\n")
    with pytest.raises(SparsityError, match=r"has schema 2 and this version reads 1.*newer"):
        read(history)
    with pytest.raises(SparsityError, match="has schema 2"):
        append(history, night(30))


def test_missing_and_empty(tmp_path):
    with pytest.raises(SparsityError, match="there is no such file"):
        read(tmp_path / "none")
    (tmp_path / "empty").touch()
    with pytest.raises(SparsityError, match="it holds no run"):
        read(tmp_path / "empty")


def test_series_per_machine_and_profile(history):
    append(history, night(21, profile="smoke"))
    found = all_series(read(history), only="seconds")
    assert [(s.target, s.profile, s.name, len(s.values)) for s in found] == [
        ("cpu-1", "full", "seconds a/cpu", 20),
        ("cpu-1", "smoke", "seconds sparse_linear/cpu (rows=1)", 1),
        ("cpu-2", "full", "seconds a/cpu", 20),
    ]
    (change,) = found[0].changes
    assert change.index == 12
    assert found[0].worse(change)
    assert found[2].changes == ()


def test_series_of_metrics_are_named_by_configuration():
    assert [s.name for s in all_series([RUN])] == [
        "kl:austen m-teal-0.50",
        "perplexity:austen m-teal-0.50",
        "seconds sparse_linear/cpu (rows=1)",
    ]
    metrics = {
        "m-wanda-2:4-teal-0.50-spon-task:sva": {"accuracy:sva": 0.5},
        "m-wanda-2:4-teal-0.50-generation": {"path:generation": 0.5},
        "m-dense-perplexity:my:text.txt": {"kl:my:text.txt": 0.0},
    }
    assert [s.name for s in all_series([night(0, seconds={}, metrics=metrics)])] == [
        "accuracy:sva m-wanda-2:4-teal-0.50-spon",
        "kl:my:text.txt m-dense",
        "path:generation m-wanda-2:4-teal-0.50",
    ]


@pytest.mark.parametrize(
    ("cell", "metric", "before", "after"),
    [
        ("task:sva", "accuracy:sva", 0.8, 0.6),
        ("answer_likelihood:x", "answer_nll:x", 1.0, 1.5),
    ],
)
def test_less_accuracy_and_a_less_likely_answer_are_worse(cell, metric, before, after):
    runs = [
        night(n, metrics={f"m-dense-{cell}": {metric: before if n < 10 else after}})
        for n in range(20)
    ]
    (series,) = all_series(runs, only=metric.partition(":")[0])
    assert series.worse(series.changes[0])


def test_listing(history, capsys):
    assert main(["history", str(history), "--only", "seconds"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "A processor (cpu-1), full profile: 1 series, 1 changed"
    assert lines[1] == "  seconds a/cpu: 20 runs, last 1.251 ms"
    assert lines[2].startswith("    2026-01-13T02:00:00, 0123456789ab: 1.001 ms -> 1.251 ms (+2")
    assert lines[2].endswith("worse")
    assert lines[3].startswith("Another (cpu-2)")
    assert main(["history", str(history), "--changed"]) == 0
    assert "kl:austen" not in capsys.readouterr().out


def test_listing_refuses(tmp_path, history, capsys):
    assert main(["history", str(tmp_path / "none")]) == 4
    assert main(["history", str(history), "--only", "zzz"]) == 4
    errors = capsys.readouterr().err.splitlines()
    assert errors[0].startswith(f"ERROR: FILE {tmp_path}")
    assert errors[1].startswith("ERROR: --only 'zzz': no series of")


def test_a_picture_that_cannot_be_written(tmp_path, history, capsys):
    place = history / "picture.png"
    assert main(["history", str(history), "--png", str(place)]) == 11
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith(f"ERROR: --png {place} cannot be written (")
    assert error.endswith("name another place")


def test_picture(history, tmp_path):
    first, second = tmp_path / "a.png", tmp_path / "b.png"
    for path in (first, second):
        assert main(["history", str(history), "--png", str(path)]) == 0
    assert first.read_bytes().startswith(b"\x89PNG")
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.slow
def test_as_a_module(history):
    command = [sys.executable, "-m", "pytest_sparsity", "history", str(history)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "1 changed" in done.stdout


def test_revision(tmp_path):
    assert revision_of(tmp_path) is None

    def git(*words: str) -> None:
        identity = ("-c", "user.name=n", "-c", "user.email=e")
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-m", "first")
    clean = revision_of(tmp_path)
    assert clean is not None
    assert len(clean) == 40
    (tmp_path / "file").write_text("2")
    assert revision_of(tmp_path) == f"{clean}+"


def test_a_sweep_appends(finished):
    path = finished.pytester.path / "h.jsonl"
    options = ("--sparsity-sweep", "-k", "within_budget", f"--sparsity-history={path}")
    for _ in range(2):
        finished.here(*options)
    first, second = read(path)
    assert first.metrics == second.metrics
    assert first.profile == "smoke"
    assert first.revision is None
    assert first.metrics["tiny-random-dense-perplexity:austen"]["perplexity:austen"] > 100


def test_a_sweep_refuses_before_it_measures(finished, assert_refused):
    path = finished.pytester.path / "h.jsonl"
    path.write_text('{"schema": 9}\n')
    result = finished.here("--sparsity-sweep", f"--sparsity-history={path}")
    assert_refused(result, "--sparsity-history", "has schema 9")
    assert path.read_text() == '{"schema": 9}\n'


def test_a_run_tells_of_a_last_line_that_is_left_out(history, pytester):
    history.write_bytes(history.read_bytes()[:-30])
    before = history.read_bytes()
    pytester.makepyfile("def test_nothing(): ...")
    result = pytester.runpytest_inprocess("-Werror", f"--sparsity-history={history}")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["WARNING: *history.jsonl: the last line is incomplete and left *"])
    assert history.read_bytes() == before  # nothing was measured


def test_a_history_that_cannot_be_written_has_a_code_of_its_own(finished, monkeypatch):
    """It could be when the run began."""

    def full(path, entry):
        raise NotWritten(f"cannot write {path}: no space")

    monkeypatch.setattr("pytest_sparsity.reporting.history.entries.append", full)
    path = finished.pytester.path / "h.jsonl"
    result = finished.here("--sparsity-sweep", "-k", "within_budget", f"--sparsity-history={path}")
    assert result.ret == ExitCode.NOT_WRITTEN
    result.stdout.fnmatch_lines(["ERROR: cannot write *h.jsonl: no space"])


@pytest.mark.parametrize(
    ("content", "complaint"),
    [("hello\n{}\n", "line 1 is damaged"), ('{"schema": 9}\n', "line 1 has schema 9 and this")],
)
def test_a_run_refuses_what_it_could_not_append_to(pytester, assert_refused, content, complaint):
    path = pytester.path / "h.jsonl"
    path.write_text(content)
    pytester.makepyfile("def test_nothing(): ...")
    result = pytester.runpytest_inprocess(f"--sparsity-history={path}")
    assert_refused(result, "--sparsity-history", complaint)
    assert path.read_text() == content
