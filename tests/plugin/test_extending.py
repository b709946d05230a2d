"""docs/extending.md does what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

TEXT = (Path(__file__).parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
OFFER, LAYOUT, BE_TOLD, READ = re.findall(r"```python\n(.*?)```", TEXT, re.S)
TOKENIZER = "from my_package import my_tokenizer"
INSTEAD = "from pytest_sparsity.models.tiny import tiny_tokenizer as my_tokenizer"


@pytest.mark.slow
def test_what_the_page_offers(sweep: Any) -> None:
    assert TOKENIZER in OFFER
    sweep.pytester.makeconftest(OFFER.replace(TOKENIZER, INSTEAD) + BE_TOLD)
    (command,) = re.findall(r"```sh\npytest --sparsity-sweep (.*?)\n```", TEXT)
    calibration = "--sparsity-calibration=counting"
    chosen = ("-k", "mine and within_budget and (parity or counting)", "-s")
    result = sweep.here(
        "--sparsity-sweep", *command.split(), calibration, "--sparsity-spon=off", *chosen
    )
    assert result.ret == 0, result.stdout.str()
    result.stdout.fnmatch_lines(["to be uploaded: *sparsity-report"])
    assert "## Worst of all\n\nmine-teal-0.50: " in (sweep.report / "summary.md").read_text()
    evaluations = {r["cell"]["evaluation"] for r in sweep.records().values()}
    assert evaluations == {"perplexity:counting", "task:parity"}


def test_the_layout_of_the_page() -> None:
    from pytest_sparsity.hooks import OwnModel

    found = eval(LAYOUT, {"OwnModel": OwnModel, "build": lambda: None})
    assert set(found.layout.values()) == {"qkv", "o", "up", "down"}


def test_what_the_page_reads(
    finished_report: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(finished_report.parent)
    exec(READ, {})
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("tiny-random-teal-0.50-perplexity:austen ") for line in lines)
    assert any(line.endswith(" reference") for line in lines)


def test_every_hook_is_on_the_page() -> None:
    from pytest_sparsity.plugin import hookspec

    hooks = {name for name in vars(hookspec) if name.startswith("pytest_sparsity_")}
    assert hooks == set(re.findall(r"^\| `(pytest_sparsity_\w+)`", TEXT, re.M))
