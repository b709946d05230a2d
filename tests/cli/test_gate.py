"""pytest-sparsity gate: its exit code, for every outcome, and run for real against a revision."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_sparsity.cli.gate import conclusion


@pytest.mark.parametrize(
    ("status", "counts", "strict", "code"),
    [
        (0, {"ok": 3}, False, 0),
        (0, {"ok": 3, "improved": 1}, True, 0),
        (0, {"ok": 3, "inconclusive": 1, "not comparable": 2}, False, 0),
        (0, {"ok": 3, "inconclusive": 1}, True, 10),
        (0, {"ok": 3, "not comparable": 1}, True, 10),
        (0, {"ok": 3, "suspect": 1}, True, 10),
        (0, {"ok": 3, "suspect": 1}, False, 0),
        (0, {"inconclusive": 1}, False, 0),
        (1, {"ok": 3, "regressed": 1}, False, 1),
        (1, {"regressed": 1, "inconclusive": 1}, True, 1),
        (0, {"regressed": 1}, False, 1),
        (1, {"ok": 3}, False, 1),
        (1, {}, False, 1),
        (0, {}, False, 5),
        (5, {}, False, 5),
        (5, {"not comparable": 4}, True, 5),
        (0, {"not comparable": 4}, False, 5),
        (3, {"ok": 4}, False, 3),
        (-9, {"ok": 4}, False, 3),
        (-9, None, False, 3),
        (4, {}, False, 4),
        (2, {"ok": 1}, False, 2),
        (-15, {"ok": 1}, False, 2),
        (0, None, True, 0),
        (1, None, False, 1),
        (2, None, False, 2),
        (4, None, False, 4),
        (5, None, False, 5),
        (6, {"ok": 1}, False, 6),
        (11, {"ok": 1}, False, 11),
        (11, {"regressed": 1}, False, 1),
    ],
)
def test_exit_code(status, counts, strict, code):
    found, sentence = conclusion(status, counts, strict=strict)
    assert found == code, sentence


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "one of the arguments --against --baseline is required"),
        (["--against=x", "--baseline=y"], "not allowed with argument"),
        (["--against=x", "--update"], "--update stores a run in --baseline DIR"),
        (["--against=x", "--suites=speed"], "--suites: 'speed' is none of kernels, accuracy"),
        (["--against=x", "--what"], "unrecognized arguments: --what"),
    ],
)
def test_wrong_use(refused, words, message):
    assert message in refused("gate", *words)


CONFTEST = """
import torch
from pytest_sparsity import Plan

class First:
    name = "first"
    parameters = {}

    def plan(self, calibrator, level):
        def selector(x):
            kept = torch.zeros(x.shape, dtype=torch.bool)
            kept[..., : round(x.shape[-1] * (1 - SHARE * level))] = True
            return x * kept
        sites = (site.name for site in calibrator.model.sites)
        return Plan(self.name, level, {site: selector for site in sites}, calibrator.prefill)

def pytest_sparsity_methods(config):
    return [First()]
"""


class Repository:
    """A git repository with a method of its own, and the gate run in it."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder = folder
        self.report = folder / "sparsity-report"
        self._options = (
            *(
                "--sparsity-model=tiny-random",
                "--sparsity-profile=smoke",
                "--sparsity-methods=first",
            ),
            *("--sparsity-corpora=austen", "--sparsity-tasks=none", "--sparsity-spon=off"),
            *(
                f"--sparsity-cache={cache}",
                "-p",
                "no:cacheprovider",
                "-k",
                "budget or accuracy_lost",
            ),
        )
        self.git("init", "--quiet")
        self.commit(share=1.6)

    def git(self, *words: str) -> str:
        identity = ("-c", "user.name=n", "-c", "user.email=e")
        done = subprocess.run(
            ["git", *identity, *words],
            cwd=self.folder,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout

    def commit(self, share: float) -> None:
        text = CONFTEST.replace("SHARE", str(share))
        (self.folder / "conftest.py").write_text(text)
        (self.folder / ".gitignore").write_text("sparsity-report/\n__pycache__/\n")
        self.git("add", ".")
        self.git("commit", "--quiet", "--allow-empty", "-m", f"share {share}")

    def gate(self, *words: str, options: tuple[str, ...] = ()) -> tuple[int, str]:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest_sparsity", "gate", *words, "--suites=accuracy"),
                *("--", *self._options, *options),
            ],
            cwd=self.folder,
            capture_output=True,
            text=True,
            env={k: v for k, v in os.environ.items() if not k.startswith("GITHUB_")},
        )
        return done.returncode, done.stdout + done.stderr

    def decisions(self) -> dict[str, str]:
        content = json.loads((self.report / "gate.json").read_text())
        return {each["id"]: each["decision"] for each in content["decisions"]}


@pytest.fixture
def repository(tmp_path: Path, sparsity_cache: Path) -> Repository:
    return Repository(tmp_path, sparsity_cache)


@pytest.mark.slow
def test_against_a_revision(repository):
    repository.commit(share=1.6)
    code, output = repository.gate("--against=HEAD~1")
    assert code == 0, output
    assert set(repository.decisions().values()) == {"ok"}
    assert (repository.report / "junit.xml").exists()
    repository.commit(share=0.2)  # random weights do better the more of them is left out
    code, output = repository.gate("--against=HEAD~1")
    assert code == 1, output
    assert "exit code 1" in output
    assert repository.decisions()["tiny-random-first-0.50-perplexity:austen"] == "regressed"
    assert repository.decisions()["tiny-random-dense-perplexity:austen"] == "ok"
    assert len(repository.git("worktree", "list").splitlines()) == 1, "the base's is left behind"


@pytest.mark.slow
def test_against_a_stored_run(repository):
    code, output = repository.gate("--baseline=stored", "--update")
    assert code == 0, output
    report = ("--report=now", "--baseline=stored", "--history=h.jsonl")
    repository.report = repository.folder / "now"
    code, output = repository.gate(*report)
    assert code == 0, output
    assert len((repository.folder / "h.jsonl").read_text().splitlines()) == 1
    code, output = repository.gate(*report, options=("--sparsity-seed=1",))
    assert code == 5, output
    assert "nothing was compared" in output


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--against=nothing-of-that-name",), 4, "there is no such revision"),
        (("--baseline=nowhere",), 4, "nowhere"),
    ],
)
def test_nothing_to_compare_with(repository, words, code, message):
    found, output = repository.gate(*words)
    assert found == code, output
    assert message in output
