"""``ci/power.py`` writes a section of docs/verdicts.md, ``ci/spreads.py`` what it is made from."""

from __future__ import annotations

import importlib.util
import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from pytest_sparsity.core.statistics import influence
from pytest_sparsity.sweep.cell import Cell, Configuration
from pytest_sparsity.sweep.forecast import Control, Planned
from pytest_sparsity.sweep.known_spreads import Known

CI = Path(__file__).parents[2] / "ci"
CELL = Cell(Configuration("m", "teal", 0.5), "perplexity:austen")


def script(name):
    spec = importlib.util.spec_from_file_location(f"ci_{name}", CI / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def power(monkeypatch):
    found = script("power")
    monkeypatch.setattr(found, "RUNS", 200)
    monkeypatch.setattr(found, "RUNS_ALONE", 40)
    return found


def planned(values, metric, limit, amounts):
    bounds = (-1, 1) if metric.startswith("accuracy") else None
    known = Known.of(metric, influence(values, bounds=bounds), "here")
    return Planned(CELL, metric, amounts, amounts[-1], limit, known)


@pytest.mark.parametrize(("metric", "amounts"), [("kl:austen", (32, 64)), ("accuracy:sva", (200,))])
def test_drawn_runs_find_what_the_forecast_says(power, metric, amounts):
    rng = np.random.default_rng(0)
    values = rng.normal(0.3, 0.1, 60)
    if metric.startswith("accuracy"):
        values = np.repeat([1.0, -1.0, 0.0], [6, 3, 91])
    each = planned(values, metric, values.mean() + 0.02, amounts)
    assert power._found_in_run(each, Control(0.001)) == pytest.approx(0.9, abs=0.09)
    assert power._found_alone(each, Control(0.025)) == pytest.approx(0.9, abs=0.11)


@pytest.mark.slow  # the forecast of a whole sweep
def test_the_section_takes_its_place_in_the_page(power, monkeypatch, tmp_path):
    page = tmp_path / "verdicts.md"
    page.write_text(f"# Title\n\n{power.BEGIN}\nof last time\n{power.END}\n\n## After\n")
    monkeypatch.setattr(power, "PAGE", page)
    monkeypatch.setattr(power, "RUNS", 2)
    monkeypatch.setattr(power, "RUNS_ALONE", 2)
    assert power.main() == 0
    text = page.read_text()
    assert text.startswith("# Title\n")
    assert text.endswith(f"{power.END}\n\n## After\n")
    assert "of last time" not in text
    assert "| perplexity:austen " in text
    assert "Of accuracy in all 54 cells" in " ".join(text.split())


def test_spreads_are_written_of_the_sparse_cells(monkeypatch, tmp_path, record, configurations):
    spreads, (dense, sparse, _) = script("spreads"), configurations
    here = spreads.host_target().fingerprint
    monkeypatch.setattr(spreads, "FILE", tmp_path / "spreads.json")

    def stored(configuration, seed, target):
        rng = random.Random(seed)
        nll = [[rng.gauss(2, 0.5) for _ in range(4)] for _ in range(8)]
        key = {"target": target, "versions": {}, "dtype": "float32", "seed": 0}
        return record(configuration, nll=nll, key=key).to_json()

    report = tmp_path / "report"
    report.mkdir()
    lines = [stored(dense, 1, here), stored(sparse, 2, here)]
    (report / "records.jsonl").write_text("\n".join(lines) + "\n")
    assert spreads.main([str(report)]) == 0
    found = json.loads(spreads.FILE.read_text())
    # Divergence and agreement are equal in all documents of these records.
    assert [each["metric"] for each in found["metrics"]] == ["perplexity:austen"]
    assert found["about"]["machine"] == spreads.host_target().name
    (report / "records.jsonl").write_text(stored(sparse, 2, "cpu-other") + "\n")
    with pytest.raises(SystemExit):
        spreads.main([str(report)])
    shutil.rmtree(report)
    with pytest.raises(SystemExit):
        spreads.main([str(report)])
