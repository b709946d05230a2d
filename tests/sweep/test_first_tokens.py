"""What stands before every text, and what is left out: in windows, in choices and in records."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_sparsity.core.errors import SparsityWarning
from pytest_sparsity.evaluation.scoring import encode
from pytest_sparsity.models.tiny import tiny_model, tiny_tokenizer
from pytest_sparsity.settings.settings import Settings
from pytest_sparsity.sweep.cell import Cell, Configuration
from pytest_sparsity.sweep.resolve import resolve
from pytest_sparsity.sweep.stores import make_stores


@pytest.fixture(scope="module")
def led(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with a tokenizer that puts two tokens first, neither of which is BOS."""
    folder = tmp_path_factory.mktemp("saved") / "led"
    model, tokenizer = tiny_model(1), tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<mask>", "<sop>"]})
    model.resize_token_embeddings(259)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    said = json.loads((folder / "tokenizer.json").read_text())
    added = {name: {"id": name, "ids": [n], "tokens": [name]} for name, n in FIRST.items()}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    said["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [*({"SpecialToken": {"id": name, "type_id": 0}} for name in FIRST), text],
        "pair": [text, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": added,
    }
    (folder / "tokenizer.json").write_text(json.dumps(said))
    return folder


FIRST = {"<mask>": 257, "<sop>": 258}


def test_first_tokens_that_are_not_bos_stand_before_every_text_and_in_the_record(
    led: Path, settings: Settings, sparsity_cache: Any
) -> None:
    chosen = replace(settings, models=(str(led),), cache=sparsity_cache, dtype="float32")
    stores = make_stores(chosen)
    model = stores.models.load("led")
    assert model.first_tokens == (257, 258)
    assert {tuple(w.tokens[:2].tolist()) for w in stores.texts.windows("led", "austen")} == {
        (257, 258)
    }
    span = encode(model, "a", "b")
    assert (span.tokens[:2], len(span.tokens), span.start) == ([257, 258], 4, 3)
    cell = Cell(Configuration("led"), "perplexity:austen")
    key = stores.keys.of(cell)
    assert key["first_tokens"] == [257, 258]
    assert resolve(stores, cell, key).facts["first_tokens"] == [257, 258]


def test_records_without_first_tokens_are_as_they_were(
    settings: Settings, sparsity_cache: Any
) -> None:
    stores = make_stores(replace(settings, models=("tiny-random",), cache=sparsity_cache))
    cell = Cell(Configuration("tiny-random"), "perplexity:austen")
    key = stores.keys.of(cell)
    assert "first_tokens" not in key
    assert resolve(stores, cell, key).facts == {}


def test_documents_that_are_too_short_are_counted_and_named(
    settings: Settings, sparsity_cache: Any, tmp_path: Path
) -> None:
    path = tmp_path / "mine.jsonl"
    texts = ["x" * (1000 + number) for number in range(5)] + ["short", "shorter"]
    path.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    chosen = replace(settings, models=("tiny-random",), corpora=(str(path),), cache=sparsity_cache)
    stores = make_stores(chosen)
    cell = Cell(Configuration("tiny-random"), f"perplexity:{path}")
    said = r"'mine' \(evaluation\): 2 of 7 documents have less than 256 tokens for tiny-random and"
    with pytest.warns(SparsityWarning, match=said):
        inputs = resolve(stores, cell, {})
    assert inputs.facts == {"left_out": 2}
