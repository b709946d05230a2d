"""pytest-sparsity compare: report folders, models and revisions, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_sparsity.cli.main import main
from pytest_sparsity.cli.measuring import measured_like, read_report
from pytest_sparsity.cli.sides import Kind, Side, side_of
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.sweep.cell import Cell, Configuration
from pytest_sparsity.sweep.record import Record

RECORDS = "records.jsonl"
#: What makes a comparison of two models quick.
QUICK = ("--profile=smoke", "--corpora=austen", "--tasks=sva", "--documents=8", "--items=24")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def worse(model_folder: Path) -> Path:
    """The model in ``model_folder`` with noise on its weights, under another name."""
    import torch
    import transformers

    folder = model_folder.with_name("tuned")
    shutil.copytree(model_folder, folder)
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(model_folder)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.4 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder)
    return folder


def changed(report: Path, folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of a report in which every record went through ``change``, as plain data."""
    folder.mkdir()
    lines = []
    for line in (report / RECORDS).read_text().splitlines():
        content = json.loads(line)
        change(content)
        cell = content["cell"]
        names = (cell["model"], cell["method"], cell["level"], cell["spon"], cell["weights"])
        made = Cell(Configuration(*names), cell["evaluation"])
        content["id"] = Record(made, content["key"], {}, {}, "").id
        lines.append(json.dumps(content))
    (folder / RECORDS).write_text("\n".join(lines) + "\n")
    return folder


def other_weights(content: dict[str, Any]) -> None:
    """Of another model, whose sparse perplexity is worse and whose dense one is as it was."""
    content["key"]["weights"] = "new"
    for unit in content["measured"].get("documents", ()):
        factor = 1.05 if content["cell"]["method"] == "teal" else 1.0
        unit["log_likelihoods"] = [factor * value for value in unit["log_likelihoods"]]


def told(capsys: pytest.CaptureFixture[str]) -> str:
    """What was printed, without the ends of lines, which depend on the lengths of paths."""
    return " ".join(capsys.readouterr().out.split())


def decided(file: Path) -> dict[str, str]:
    return {each["id"]: each["decision"] for each in json.loads(file.read_text())["decisions"]}


# --- report folders


def test_two_reports(finished_report, tmp_path, capsys):
    other = changed(finished_report, tmp_path / "other", other_weights)
    code = main(["compare", str(finished_report), str(other), "--json=c.json", "--markdown=c.md"])
    assert code == 1
    found = decided(Path("c.json"))
    sparse = "tiny-random-teal-0.50-perplexity:austen"
    assert found["tiny-random-dense-perplexity:austen"] == "ok"
    assert found[sparse] == "regressed"
    assert found[f"{sparse}, damage"] == "regressed"
    output = capsys.readouterr().out
    assert "teal-0.50, damage" in output
    assert "sparsity costs" in output
    assert "| teal-0.50, damage" in Path("c.md").read_text()


def test_a_report_and_its_copy(finished_report, tmp_path, capsys):
    shutil.copytree(finished_report, tmp_path / "copy")
    assert main(["compare", str(finished_report), "copy", "--strict", "--json=c.json"]) == 0
    assert set(decided(Path("c.json")).values()) == {"ok"}
    assert "damage" not in capsys.readouterr().out.split("Worse by")[0]


def test_undecided_is_10_with_strict(finished_report, tmp_path):
    def turn(content: dict[str, Any]) -> None:
        content["key"]["weights"] = "new"
        content["measured"].get("items", [{}])[0]["right"] = content["cell"]["method"] == "dense"

    other = changed(finished_report, tmp_path / "other", turn)
    assert main(["compare", str(finished_report), str(other)]) == 0
    assert main(["compare", str(finished_report), str(other), "--strict"]) == 10


def test_one_document_decides_nothing(finished_report, tmp_path):
    def cut(content: dict[str, Any]) -> None:
        other_weights(content)
        for name in content["measured"].keys() & {"documents", "items", "prompts"}:
            del content["measured"][name][1:]

    other = changed(finished_report, tmp_path / "other", cut)
    assert main(["compare", str(finished_report), str(other), "--strict", "--json=c.json"]) == 10
    text = Path("c.json").read_text()
    (found,) = [
        each
        for each in json.loads(text)["decisions"]
        if each["id"] == "tiny-random-teal-0.50-perplexity:austen"
    ]
    assert (found["decision"], found["figures"]["high"]) == ("inconclusive", None)
    assert "1 are in both of 1 now and 12 before" in found["reason"]


def test_other_tokenizers_are_told_and_tasks_compared(finished_report, tmp_path, capsys):
    def retokenized(content: dict[str, Any]) -> None:
        other_weights(content)
        content["key"]["tokens"] = "others"

    other = changed(finished_report, tmp_path / "other", retokenized)
    main(["compare", str(finished_report), str(other), "--json=c.json"])
    assert "the tokenizers of A and B cut text differently" in told(capsys)
    found = decided(Path("c.json"))
    assert found["tiny-random-dense-perplexity:austen"] == "not comparable"
    assert found["tiny-random-dense-task:sva"] == "ok"


def test_other_data_are_exit_code_5(finished_report, tmp_path, capsys):
    other = changed(finished_report, tmp_path / "other", lambda c: c["key"].update(seed=7))
    assert main(["compare", str(finished_report), str(other)]) == 5
    assert "the seeds differ: 7 now, 0 in the baseline" in told(capsys)


def test_a_model_under_another_name_is_told(finished_report, tmp_path, capsys):
    def named(content: dict[str, Any]) -> None:
        content["cell"]["model"] = "tuned"

    other = changed(finished_report, tmp_path / "other", named)
    assert main(["compare", str(finished_report), str(other)]) == 0
    assert "tiny-random of A is tuned of B" in told(capsys)


def test_cells_of_one_side_are_told(finished_report, tmp_path, capsys):
    lines = (finished_report / RECORDS).read_text().splitlines()
    (tmp_path / "few").mkdir()
    kept = [line for line in lines if "mean_residual" not in line]
    (tmp_path / "few" / RECORDS).write_text("\n".join(kept) + "\n")
    assert main(["compare", str(finished_report), "few"]) == 0
    assert "A alone has tiny-random-teal-0.50-mean_residual-perplexity:austen" in told(capsys)


# --- models and revisions


@pytest.mark.slow
def test_two_models(model_folder, worse, sparsity_cache, capsys):
    """Each is measured, dense and sparse; a stored report on either side is measured likewise."""
    words = [*QUICK, f"--cache={sparsity_cache}", "--json=c.json"]
    assert main(["compare", str(model_folder), str(worse), *words]) == 1
    found = decided(Path("c.json"))
    assert found["tuned-dense-perplexity:austen"] == "regressed"
    assert {"tuned-teal-0.50-perplexity:austen, damage", "tuned-dense-task:sva"} < found.keys()
    report = read_report(Side("A", "", Kind.REPORT), Path("sparsity-compare/a"))
    assert {len(r.units) for r in report.values() if "perplexity" in r.cell.evaluation} == {8}
    capsys.readouterr()

    again = ["compare", "sparsity-compare/a", str(worse), f"--cache={sparsity_cache}"]
    assert main([*again, "--report=second", "--json=d.json"]) == 1
    assert decided(Path("d.json")) == found
    assert "alone has" not in capsys.readouterr().out


@pytest.mark.slow
def test_two_revisions_of_a_model(model_folder, worse, sparsity_cache, git_in, tmp_path):
    """What a folder held in one commit, and what it holds in the next."""
    repository = tmp_path / "repository"
    shutil.copytree(model_folder, repository / "mine")
    git = git_in(repository)
    git("add", "-A")
    git("commit", "-q", "-m", "one")
    shutil.copytree(worse, repository / "mine", dirs_exist_ok=True)
    git("commit", "-q", "-a", "-m", "two")
    words = ["--model=mine", *QUICK, f"--cache={sparsity_cache}", "--json=c.json"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(repository)
        assert main(["compare", "HEAD~1", "HEAD", *words]) == 1
        found = decided(Path("c.json"))
    assert found["mine-dense-perplexity:austen"] == "regressed"
    assert "mine-teal-0.50-task:sva, damage" in found
    assert len(git("worktree", "list").splitlines()) == 1


def test_what_a_report_tells_of_how_it_was_measured(finished_report):
    report = read_report(Side("A", "", Kind.REPORT), finished_report)
    assert measured_like(report) == {
        "methods": "dense,teal",
        "weights": "loaded",
        "spon": "off,mean_residual",
        "corpora": "austen",
        "tasks": "task:sva",
        "levels": "0.5",
        "seed": "0",
        "prefill": "first:1",
        "profile": "smoke",
        "documents": "12",
        "items": "24",
    }


# --- what a word names


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("smollm2-135m", Kind.MODEL),
        ("tiny:llama", Kind.MODEL),
        ("org/name", Kind.MODEL),
        ("model:anything", Kind.MODEL),
        ("rev:anything", Kind.REVISION),
    ],
)
def test_words(word, kind):
    assert side_of("A", word).kind is kind


def test_files(finished_report, model_folder, tmp_path, git_in):
    assert side_of("A", str(finished_report)).kind is Kind.REPORT
    assert side_of("A", str(finished_report / RECORDS)).files == (finished_report,)
    assert side_of("A", str(model_folder)).kind is Kind.MODEL
    git = git_in(tmp_path)
    git("commit", "-q", "--allow-empty", "-m", "one")
    git("branch", "mine/next")
    assert side_of("A", "mine/next").kind is Kind.REVISION


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere", "org/b"], "A nowhere: there is no such file or folder"),
        (["empty", "org/b"], "A empty: the folder is empty; name a folder with records.jsonl"),
        (["report", "other"], "B other: it holds none of these; name a folder with records.jsonl"),
        (["report", "report"], "A and B are both report; name two runs"),
        (["report", "copy", "--tasks=sva"], "--tasks: both are report folders"),
        (["report", "copy", "--metric=acc"], "--metric: it is about logged samples"),
        (
            ["report", "cut"],
            "B cut/records.jsonl: its last line is incomplete; run the sweep again",
        ),
        (["report", "blank"], "B blank/records.jsonl: it is empty"),
        (["report", "newer"], "line 1 has schema 9 and this version reads 1"),
        (["report", "nan"], "line 1 is damaged (NaN is no number)"),
        (["report", "twice"], "is in it 2 times"),
        (["report", "tiny-random", "--documents=0"], "--documents '0': use a whole number"),
        (["report", "copy", "--run-error=2"], "--run-error '2': use a fraction above 0"),
        (
            ["report", "tiny-random", "--tasks=nothing"],
            "task:nothing is not in the report that",
        ),
    ],
)
def test_what_is_refused(finished_report, tmp_path, capsys, words, message):
    """One sentence, exit code 4, nothing measured."""
    lines = (finished_report / RECORDS).read_text().splitlines(keepends=True)
    (text,) = [i for i, one in enumerate(lines) if "dense" in one and "perplexity" in one][:1]
    first = json.loads(lines[text])
    documents = first["measured"]["documents"]
    documents[1]["log_likelihoods"][0] = float("nan")
    nan = json.dumps(first)
    first = json.loads(lines[text])
    first["measured"]["documents"].append(first["measured"]["documents"][0])
    contents = {
        "report": "".join(lines),
        "copy": "".join(lines),
        "cut": "".join(lines)[:-9],
        "blank": "",
        "newer": json.dumps({**first, "schema": 9}) + "\n",
        "nan": nan + "\n",
        "twice": json.dumps(first) + "\n",
    }
    for name, content in contents.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / RECORDS).write_text(content)
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("nothing")
    assert main(["compare", *words]) == 4
    output = capsys.readouterr()
    (sentence,) = [line for line in output.err.splitlines() if line.startswith("ERROR")]
    assert message in sentence


def test_several_models_without_a_name_in_common(finished_report, tmp_path):
    def split(first: str, second: str) -> Callable[[dict[str, Any]], None]:
        def change(content: dict[str, Any]) -> None:
            dense = content["cell"]["method"] == "dense"
            content["cell"]["model"] = first if dense else second

        return change

    from pytest_sparsity.sweep.two_runs import compare_runs

    reports = [
        read_report(Side("A", "", Kind.REPORT), changed(finished_report, tmp_path / n, split(*n)))
        for n in ("ab", "cd")
    ]
    with pytest.raises(SparsityError, match="A holds a, b and B holds c, d"):
        compare_runs(*reports, seed=0)
