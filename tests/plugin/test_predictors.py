"""--sparsity-predictors in a sweep: what others trained takes the place of what would be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

SWEEP = "--sparsity-sweep"
QUICK = ("-k", "within_budget and perplexity", "--sparsity-spon=off", "--sparsity-levels=0.5")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """PowerInfer's predictors of tiny-random: 3 layers of 160 neurons in a stream of 64."""
    made = tmp_path / "theirs"
    made.mkdir()
    lot = torch.Generator().manual_seed(0)
    for layer in range(3):
        fc1, fc2 = torch.randn(8, 64, generator=lot), torch.randn(160, 8, generator=lot)
        torch.save({"fc1.weight": fc1, "fc2.weight": fc2}, made / f"model_{layer}.pt")
    return made


def _records(sweep: Any) -> dict[str, Any]:
    lines = (sweep.report / "records.jsonl").read_text().splitlines()
    cells = (json.loads(line) for line in lines)
    return {
        content["cell"]["method"]: content
        for content in cells
        if content["cell"]["evaluation"] == "perplexity:austen"
    }


def test_given_predictors_are_used_and_are_in_the_key(sweep: Any, folder: Path) -> None:
    methods = "--sparsity-methods=powerinfer,powerinfer:natural,hot_only"
    result = sweep.here(SWEEP, methods, f"--sparsity-predictors={folder}", *QUICK)
    result.stdout.fnmatch_lines([f"*powerinfer: takes PowerInfer's predictors of {folder}*"])
    found = _records(sweep)
    assert set(found) == {"dense", "powerinfer", "powerinfer:natural", "hot_only"}
    given = found["powerinfer"]["key"]["given"]
    assert given == found["powerinfer:natural"]["key"]["given"]
    assert "given" not in found["hot_only"]["key"]
    natural = found["powerinfer:natural"]
    assert natural["cell"]["level"] == 0
    achieved = natural["measured"]["achieved"]
    assert 0.4 < achieved["neurons"] < 0.6  # random scores: half are negative
    assert achieved["net"] == pytest.approx(
        achieved["weighted"] - 3 * 8 * 224 / (3 * 43008), abs=0.2
    )
    assert achieved["net"] < achieved["weighted"]

    torch.save(torch.load(folder / "model_0.pt"), folder / "model_0.pt")  # the same again
    (folder / "model_1.pt").write_bytes((folder / "model_2.pt").read_bytes())
    again = sweep.here(SWEEP, methods, f"--sparsity-predictors={folder}", *QUICK)
    assert again.ret == result.ret
    assert _records(sweep)["powerinfer"]["key"]["given"] != given


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("teal", "holds PowerInfer's predictors, which none of the methods teal takes"),
        ("deja_vu", "holds PowerInfer's predictors, which none of the methods deja_vu takes"),
    ],
)
def test_files_that_no_method_takes(
    sweep: Any, assert_refused: Any, folder: Path, method: str, said: str
) -> None:
    result = sweep.here(SWEEP, f"--sparsity-methods={method}", f"--sparsity-predictors={folder}")
    assert_refused(result, said, "choose others with --sparsity-methods")


def test_predictors_of_another_model(sweep: Any, assert_refused: Any, folder: Path) -> None:
    (folder / "model_2.pt").unlink()
    result = sweep.here(SWEEP, "--sparsity-methods=powerinfer", f"--sparsity-predictors={folder}")
    assert_refused(result, "predictors for 2 layers, and tiny-random has 3")
    assert not (sweep.report / "records.jsonl").exists()


def test_a_pickle_that_is_no_tensors(sweep: Any, assert_refused: Any, folder: Path) -> None:
    import pickle

    (folder / "model_1.pt").write_bytes(pickle.dumps({"fc1.weight": "text"}))
    result = sweep.here(SWEEP, "--sparsity-methods=powerinfer", f"--sparsity-predictors={folder}")
    assert_refused(result, "--sparsity-predictors", "model_1.pt")


def test_a_deprecated_method_warns_and_says_its_rule(sweep: Any) -> None:
    result = sweep.here(SWEEP, "--sparsity-methods=cold_skip", *QUICK)
    text = result.stdout.str()
    assert "--sparsity-methods cold_skip goes in the next release: use powerinfer" in text
    assert "cold_skip: a fixed share of the neurons at every token: Deja Vu's rule" in text
