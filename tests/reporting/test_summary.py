from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.statistics import Interval
from pytest_sparsity.reporting.arrange import Results
from pytest_sparsity.reporting.summary import (
    Origin,
    summary_json,
    summary_markdown,
    write_summary,
)
from pytest_sparsity.sweep.verdict import judge

SETTINGS = {"seed": 7, "levels": (0.25, 0.5), "cache": Path("some/where")}
ORIGIN = Origin(
    command="pytest --sparsity-sweep --sparsity-seed 7",
    target="cpu: 2 cores",
    versions={"torch": "2.13", "triton": None},
    data={"austen": "public domain, 3f2a"},
    when="2026-11-22T18:00:00+00:00",
)


def refuse(constant: str) -> None:
    raise AssertionError(f"not JSON: {constant}")


def test_json_holds_every_verdict(fake) -> None:
    grid = fake.grid(levels=(0.5,))
    verdicts = fake.verdicts(grid)
    content = json.loads(summary_json(Results(verdicts, fake.skipped(grid)), SETTINGS, ORIGIN))
    assert content["schema"] == 2
    assert content["settings"] == {"seed": 7, "levels": [0.25, 0.5], "cache": "some/where"}
    assert content["origin"]["versions"] == {"torch": "2.13", "triton": None}
    assert sum(content["counts"].values()) == len(content["metrics"]) == len(verdicts)
    assert content["configurations"][1] == {
        "id": "smollm2-135m-teal-0.50",
        "model": "smollm2-135m",
        "method": "teal",
        "level": 0.5,
        "spon": "off",
        "weights": "loaded",
        "skipped": {
            "austen": {"weights": 0.498, "net": 0.498, "neurons": None},
            "factbook": {"weights": 0.488, "net": 0.488, "neurons": None},
        },
    }
    (entry,) = (
        m
        for m in content["metrics"]
        if (m["configuration"], m["metric"]) == ("smollm2-135m-teal-0.50", "accuracy:sva")
    )
    assert entry["outcome"] == "inconclusive"
    assert entry["budget"] == {"max": 0.05, "origin": "budgets.toml"}
    assert entry["p_value"] == 0.03
    assert entry["change"]["estimate"] == pytest.approx(0.082)
    assert entry["change"]["n"] == 200
    assert entry["change"]["detectable"] == pytest.approx(0.06)


def test_json_has_no_infinities(fake) -> None:
    verdicts = fake.verdicts(fake.grid(levels=(0.5,)))
    endless = Interval(math.nan, -math.inf, math.inf, 1, note="no limits")
    verdicts = [replace(v, comparison=replace(v.comparison, value=endless)) for v in verdicts]
    text = summary_json(Results(verdicts, {}), {"x": math.inf}, Origin())
    content = json.loads(text, parse_constant=refuse)
    value = content["metrics"][0]["value"]
    assert value["estimate"] is value["low"] is value["high"] is value["detectable"] is None
    assert value["note"] == "no limits"
    assert content["settings"]["x"] is None
    assert content["configurations"][0]["skipped"] == {}


def test_markdown(fake) -> None:
    grid = fake.grid("tiny", levels=(0.5,), spon=("off",))
    results = Results(fake.verdicts(grid, corpora=("austen",), tasks=("sva",)), {})
    text = summary_markdown(results, SETTINGS, ORIGIN, {"tiny": "accuracy-tiny.png"})
    for part in (
        "Verdicts: 0 pass, 1 fail, 1 inconclusive, 3 no budget, 3 reference.\n",
        "\n![Perplexity and accuracy of tiny against level](accuracy-tiny.png)\n",
        "\n### Perplexity on austen, n = 64 documents\n",
        "\n## Failing, suspect, inconclusive and refused\n\n- tiny-teal-0.50: perplexity:aus",
        "- Target: cpu: 2 cores\n- Versions: torch 2.13\n- Data, austen: public domain, 3f2a\n",
        "- Setting levels: [0.25, 0.5]\n",
        "```sh\npytest --sparsity-sweep --sparsity-seed 7\n```\n",
    ):
        assert part in text


def test_markdown_without_anything() -> None:
    text = summary_markdown(Results([], {}), {}, Origin(), {})
    assert text.startswith("# Sparsity sweep\n\nNothing was measured.\n\n## How this was measured")
    assert "Failing" not in text


def test_markdown_escapes_what_users_name(fake) -> None:
    grid = fake.grid("a|b*c", levels=(0.5,), spon=("off",))
    results = Results(fake.verdicts(grid, corpora=("x|y",), tasks=()), {})
    text = summary_markdown(results, {"tasks": "<b>|"}, Origin(), {"a|b*c": "a b(c).png"})
    assert r"## a\|b\*c" in text
    assert r"Perplexity on x\|y" in text
    assert "(a%20b%28c%29.png)" in text
    assert r'Setting tasks: "\<b>\|"' in text


def test_files(fake, tmp_path: Path) -> None:
    grid = fake.grid(levels=(0.5,)) + fake.grid("../other model", levels=(0.5,))
    verdicts = fake.verdicts(grid, corpora=("austen",), tasks=("sva",))
    written = write_summary(tmp_path / "new", verdicts, fake.skipped(grid), SETTINGS, ORIGIN)
    names = [
        "accuracy-smollm2-135m.png",
        "accuracy-smollm2-135m.svg",
        "accuracy-.._other_model.png",
        "accuracy-.._other_model.svg",
        "summary.md",
        "summary.json",
    ]
    assert [path.name for path in written] == names
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(names)
    assert all(path.stat().st_size for path in written)
    page = (tmp_path / "new" / "summary.md").read_text(encoding="utf-8")
    assert "(accuracy-.._other_model.png)" in page


def test_the_same_results_give_the_same_files(fake, tmp_path: Path) -> None:
    grid = fake.grid(levels=(0.5,), spon=("off",))
    verdicts = fake.verdicts(grid, corpora=("austen",), tasks=())
    first = write_summary(tmp_path / "a", verdicts, {}, SETTINGS)
    second = write_summary(tmp_path / "b", verdicts, {}, SETTINGS)
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_dense_only_has_no_picture(fake, tmp_path: Path) -> None:
    written = write_summary(tmp_path, fake.verdicts(fake.grid(levels=())), {}, SETTINGS)
    assert [path.name for path in written] == ["summary.md", "summary.json"]
    assert "![" not in written[0].read_text(encoding="utf-8")


def test_a_place_that_cannot_be_written_is_one_clear_sentence(fake, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(
        SparsityError, match=f"cannot write .*file{os.sep}summary.md.*--sparsity-report"
    ):
        write_summary(tmp_path / "file", fake.verdicts(fake.grid(levels=())), {}, SETTINGS)


def test_a_task_at_chance_is_told_with_its_reason(fake) -> None:
    reason = "dense is right on 10 of 20, chance is 0.5 (exact binomial p = 0.59)"
    verdicts = [
        judge(replace(v.comparison, refused=reason), None)
        if v.comparison.metric.startswith("accuracy")
        else v
        for v in fake.verdicts(fake.grid("tiny", levels=(0.5,)), tasks=("sva",))
    ]
    results = Results(verdicts, {})
    content = json.loads(summary_json(results, SETTINGS, ORIGIN))
    told = [m["refused"] for m in content["metrics"] if m["metric"] == "accuracy:sva"]
    assert set(told) == {reason}
    assert content["counts"]["refused"] == len(told)
    text = summary_markdown(results, SETTINGS, ORIGIN, {})
    assert f"{len(told)} refused" in text
    assert f"refused as evidence, {reason}" in text
