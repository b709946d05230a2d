"""Recipes for spontaneous neurons that were tried: made once, kept, and shown on the page."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pytest_sparsity.claims.finding import Effect
from pytest_sparsity.claims.page.trial_tables import trials_section
from pytest_sparsity.claims.page.trials import TriedRecipe, keep_trial, read_trials
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.statistics import Interval
from pytest_sparsity.methods.spon.training import Recipe

CI = Path(__file__).parents[2] / "ci"
QUICK = Recipe(steps=1, sequences=1, length=32, held_out=2)


def share(value: float, half: float = 0.1) -> Interval:
    return Interval(value, value - half, value + half, 12, detectable=half)


def trial(name: str, after: float, austen: Interval, factbook: Interval) -> TriedRecipe:
    return TriedRecipe(
        model="some_model",
        level=0.5,
        name=name,
        key={"name": name},
        held_out=(0.2, after),
        removed=Effect("held-out KL", share(1 - after / 0.2), "share"),
        lost=(Effect("austen", share(0.3), "nats"), Effect("factbook", share(0.4), "nats")),
        recovered=(Effect("austen", austen, "share"), Effect("factbook", factbook, "share")),
        tokens=153_600,
        seconds=61.4,
    )


TRIALS = [
    trial("default", 0.15, share(0.3), share(0.4)),
    trial("rate 0.1", 0.1, share(0.3, half=0.4), share(0.4)),
    trial("down", 0.18, share(0.3), Interval(-1.7, float("-inf"), float("inf"), 12)),
]


def test_the_table_of_what_was_tried() -> None:
    text = trials_section(TRIALS).replace("\\", "")
    assert "### some_model, TEAL at 0.5" in text
    assert "0.300 nats [0.200, 0.400] on austen (n = 12), 0.400 nats" in text
    assert "The lowest held-out divergence: **rate 0.1**." in text
    assert "Recovered 25 % or more on every corpus, the interval above 0: default." in text
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if "|" in line}
    assert "0.200 to 0.150" in rows["default"]
    assert "25.0 % [15.0, 35.0]" in rows["default"]
    assert "153,600" in rows["default"]
    assert "-170.0 % [-inf, inf]" in rows["down"]


def test_nothing_was_tried() -> None:
    assert trials_section([]) == ""


def test_trials_survive_their_file(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    for one in TRIALS[:2]:
        keep_trial(path, one)
    with path.open("a") as file:
        file.write('{"schema": 1, "mod')  # cut off by a crash
    assert read_trials(path) == TRIALS[:2]


@pytest.mark.parametrize("line", [b'{"schema": 99}', b"[]", b"nonsense", b'{"schema": 1}', b"\xff"])
def test_a_damaged_line(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "trials.jsonl"
    keep_trial(path, TRIALS[0])
    with path.open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(SparsityError, match=r"line 2 holds no trial .*python ci/spon_trials.py"):
        read_trials(path)


def test_no_file_of_trials(tmp_path: Path) -> None:
    with pytest.raises(SparsityError, match=r"cannot read .*trials.jsonl.*ci/spon_trials.py"):
        read_trials(tmp_path / "trials.jsonl")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.syspath_prepend(CI)
    module = importlib.import_module("spon_trials")
    text = torch.arange(4_000) * 7 % 251
    monkeypatch.setattr(module, "KEPT_APART", 4)
    monkeypatch.setattr(module, "training_text", lambda *_: {"austen": text, "wikipedia": text})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return module


def test_what_is_in_the_file_is_not_made_again(
    script: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    path = tmp_path / "trials.jsonl"
    given = ["--model", "tiny-random", "--profile", "smoke", "--out", str(path)]
    monkeypatch.setattr(sys, "argv", ["ci/spon_trials.py", *given])
    untrained = script.Attempt("mean", replace(QUICK, steps=0), script.MEAN_RESIDUAL)
    made = [script.Attempt("default", QUICK), untrained]
    monkeypatch.setattr(script, "attempts", lambda layers: made)
    script.main()
    first = path.read_text()
    trained, mean = read_trials(path)
    assert (trained.name, mean.name) == ("default", "mean")
    assert (trained.tokens, mean.tokens) == (32, 0)
    assert trained.held_out[0] == mean.held_out[0]
    assert mean.held_out[0] != mean.held_out[1]  # it is judged with what it starts from
    assert [effect.label for effect in mean.recovered] == ["austen", "factbook"]
    assert mean.recovered[0].interval.n == 12

    made.append(script.Attempt("calibration text", QUICK, wikipedia=False))
    monkeypatch.setattr(script, "mean_residual", lambda *_: pytest.fail("made again"))
    script.main()
    assert path.read_text().startswith(first)
    assert [one.name for one in read_trials(path)] == ["default", "mean", "calibration text"]
    assert read_trials(path)[-1].key["text"] == ["austen"]
    assert "calibration text" in capsys.readouterr().out


def test_recipes_differ_from_the_default_in_one_thing(script: Any) -> None:
    found = list(script.attempts(6))
    assert found[0] == script.Attempt("default")
    assert len({(repr(one.recipe), one.start, one.wikipedia) for one in found}) == len(found)
    halves = [one.recipe.layers for one in found if one.recipe.layers]
    assert halves == [(0, 2), (3, 5)]
