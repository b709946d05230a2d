"""The ReLU model that is shipped, and the text that it was trained on."""

from __future__ import annotations

import importlib.util
import json
import math
import struct
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from pytest_sparsity.core.files import sha256_text
from pytest_sparsity.evaluation.corpora import corpus
from pytest_sparsity.evaluation.token_scores import score_tokens
from pytest_sparsity.methods.attach import sparsify
from pytest_sparsity.methods.plan import Plan, Threshold
from pytest_sparsity.models import KNOWN, load_model
from pytest_sparsity.models.catalog import ShippedModel
from pytest_sparsity.models.forward import check_head, hidden_states

pytestmark = pytest.mark.usefixtures("one_thread")
NAME = "relu-4m"
CI = Path(__file__).parent.parent.parent / "ci"

if NAME not in KNOWN:
    pytest.skip(f"{NAME} is not trained yet: ci/train_relu_model.py", allow_module_level=True)


@pytest.fixture(scope="module")
def relu() -> Any:
    return load_model(NAME, dtype="float32")


@pytest.fixture(scope="module")
def provenance() -> Any:
    known = KNOWN[NAME]
    assert isinstance(known, ShippedModel)
    return json.loads((known.folder / "provenance.json").read_text())


@pytest.fixture(scope="module")
def relu_text() -> ModuleType:
    spec = importlib.util.spec_from_file_location("relu_text", CI / "relu_text.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_is_a_relu_model_without_gates(relu: Any, provenance: Any) -> None:
    check_head(relu)
    assert relu.model.config.hidden_act == "relu"
    assert [s.kind for s in relu.sites if s.layer == 0] == ["q", "k", "v", "o", "up", "down"]
    assert sum(p.numel() for p in relu.model.parameters()) == provenance["parameters"]
    assert relu.bos is None
    assert KNOWN[NAME].licence == provenance["licence"] == "Apache-2.0"


@pytest.mark.parametrize("text", ["Sir Walter Elliot, of Kellynch Hall", "naïve 日本 \t\n\x00", ""])
def test_any_text_has_tokens(relu: Any, text: str) -> None:
    assert relu.tokenizer.decode(relu.tokenizer(text)["input_ids"]) == text


def test_it_has_learnt_and_its_zeros_are_what_is_written(relu: Any, provenance: Any) -> None:
    """On the first passage of a book that it was not trained on; all passages: provenance."""
    text = corpus("austen", "evaluation").documents[0].text
    tokens = torch.tensor(relu.tokenizer(text)["input_ids"][:512])
    plan = Plan("none", 0.0, {s.name: Threshold(0.0) for s in relu.sites if s.kind == "down"})
    with sparsify(relu, plan) as attached:
        attached.counting = True
        hidden = hidden_states(relu, tokens)
    loss = -float(score_tokens(relu, hidden[:-1], tokens[1:]).log_likelihoods.mean())
    written = math.log(provenance["perplexity"]["austen"]["perplexity"])
    assert loss == pytest.approx(written, abs=0.4)
    zeros = [zeroed / seen for zeroed, seen in attached.achieved.counts.values()]
    assert zeros == pytest.approx(provenance["zeros"]["austen"], abs=0.04)


def test_its_text_is_the_calibration_text_that_is_here(provenance: Any, relu_text: Any) -> None:
    texts = provenance["texts"]
    here = {path.stem: path for path in (relu_text.DATA / "corpora").glob("*.txt")}
    used = {name for name in texts if name in here}
    assert used == {"austen.calibration", "jargon.calibration"}
    assert set(texts) - used == set(relu_text.TITLES.values())
    for name in used:
        assert texts[name]["sha256"] == sha256_text(here[name].read_text(encoding="utf-8"))


def test_evaluation_text_is_refused(relu_text: Any) -> None:
    folder = relu_text.DATA / "corpora"
    calibration = (folder / "austen.calibration.txt").read_text(encoding="utf-8")
    assert relu_text.check_disjoint({"austen": calibration}) > 1000
    one = next(
        paragraph
        for paragraph in (folder / "factbook.evaluation.txt").read_text().split("\n\n")
        if len(paragraph) > 200
    )
    wrapped = calibration + "\n\n" + one.replace(" ", "\n", 3) + "\n\nTHE END\n"
    with pytest.raises(SystemExit, match=r"a paragraph of factbook\.evaluation\.txt is in"):
        relu_text.check_disjoint({"austen": wrapped})


def test_strings_are_read_from_lazy_data(relu_text: Any) -> None:
    lines = ["EMMA", "", "Naïve."]
    items = b"".join(
        struct.pack(">2i", 0x00040009, len(line.encode())) + line.encode() for line in lines
    )
    head = b"X\n" + struct.pack(">4i", 3, 0x40201, 0x30500, 5) + b"UTF-8"
    book = head + struct.pack(">2i", 16, 3) + items
    number = head + struct.pack(">3i", 13, 1, 42)
    chunks = [struct.pack(">I", len(each)) + zlib.compress(each) for each in (number, book)]
    assert list(relu_text._strings(b"".join(chunks))) == [lines]
