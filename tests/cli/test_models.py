"""pytest-sparsity models: what works on which family, as the package says it."""

from __future__ import annotations

import json

import pytest

from pytest_sparsity.cli.main import main
from pytest_sparsity.models.families import LEFT_OUT, MAPPED, REFUSED, read_families


def test_every_family_is_in_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    output = capsys.readouterr().out
    families = read_families()
    assert max(map(len, output.splitlines())) <= 80
    words = output.replace(",", " ").replace(":", " ").split()
    assert {family.type for family in families.all} <= set(words)
    rows = {line.split()[0]: line for line in output.splitlines() if line}
    assert "q k v o gate up down" in rows["llama"]
    assert rows["llama"].split()[-1] == "100%"
    assert rows["qwen3_moe"].split()[1] == "*"
    assert " ".join(families.summary.split()) in " ".join(output.split())


def test_the_json_has_all_that_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    families = read_families()
    assert (document["schema"], document["transformers"]) == (1, families.transformers)
    assert [row["type"] for row in document["families"]] == [each.type for each in families.all]
    assert len({tuple(row) for row in document["families"]}) == 1, "all have the same fields"
    assert {row["status"] for row in document["families"]} == {MAPPED, REFUSED, LEFT_OUT}
