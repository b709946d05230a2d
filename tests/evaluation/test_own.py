"""Tasks and corpora of one's own: checked as files are, and hashed by what is measured."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_sparsity import SparsityError
from pytest_sparsity.evaluation.corpora import corpus
from pytest_sparsity.evaluation.resolve_task import resolve_task
from pytest_sparsity.hooks import Task, make_corpus, make_task

ITEMS = [
    {"context": f"{n} is", "choices": (" odd", " even", " big"), "gold": n % 2} for n in range(10)
]


def test_a_task_is_that_of_the_same_file(tmp_path: Any) -> None:
    import json

    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, ITEMS)) + "\n")
    own = {"mine": make_task("mine", ITEMS, licence="CC0")}
    found, of_file = resolve_task("mine", seed=3, own=own), resolve_task(str(path), seed=3)
    assert isinstance(found, Task)
    assert found.hash == of_file.hash
    assert (found.chance, found.licence) == (of_file.chance, "CC0")
    assert found.hash != resolve_task("mine", seed=4, own=own).hash


def test_content_is_in_the_hash() -> None:
    hashes = {
        make_task("mine", ITEMS).hash,
        make_task("other", ITEMS).hash,
        make_task("mine", ITEMS[1:]).hash,
        make_task("mine", ITEMS, normalisation="char").hash,
    }
    assert len(hashes) == 4


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"name": "sva"}, "bundled task's"),
        ({"name": "a b"}, "use another one"),
        ({"name": "x.jsonl"}, "use another one"),
        ({"items": []}, "task 'mine' has no items"),
        ({"items": [3]}, "item 1 is no mapping but int"),
        ({"items": [*ITEMS, {"context": "a"}]}, "item 11 lacks the key 'choices'"),
        ({"items": [{**ITEMS[0], "id": "x"}] * 2}, "item 2 repeats the id 'x'"),
        ({"items": [{**ITEMS[0], "gold": 3}]}, "item 1: gold must be an index from 0 to 2"),
        ({"kind": "quiz"}, "kind must be one of choice, last_word, chain, not 'quiz'"),
        ({"kind": "chain"}, "cue is the text after which"),
        ({"family": "mine"}, "family must be one of"),
    ],
)
def test_tasks_that_are_none(given: dict[str, Any], words: str) -> None:
    with pytest.raises(SparsityError, match=words):
        make_task(**{"name": "mine", "items": ITEMS, **given})


def test_unknown_tasks_name_those_that_are_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_sparsity.evaluation.harness.installed", lambda: False)
    with pytest.raises(SparsityError, match="pytest_sparsity_tasks mine"):
        resolve_task("min", seed=0, own={"mine": make_task("mine", ITEMS)})


def test_corpora_alone_and_in_mixtures() -> None:
    mine = make_corpus("mine", "evaluation", ["one " * 1000, "two " * 1000])
    own = {("mine", mine.split): mine}
    assert corpus("mine", "evaluation", own) is mine
    both = corpus("mine+austen", "evaluation", own)
    assert {document.source for document in both.documents} == {"mine", "austen"}
    with pytest.raises(SparsityError, match="pytest_sparsity_corpora has no calibration split"):
        corpus("mine", "calibration", own)
    with pytest.raises(SparsityError, match="did you mean 'mine'"):
        corpus("mines", "evaluation", own)


def test_text_is_in_the_hash() -> None:
    one, other = (make_corpus("mine", "evaluation", [text]) for text in ("one", "two"))
    assert one.hash != other.hash
    assert one.hash == make_corpus("mine", "evaluation", "one").hash


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"name": "austen"}, "bundled corpus'"),
        ({"name": "a+b"}, "use another one"),
        ({"name": "x.txt"}, "use another one"),
        ({"split": "test"}, "the split is one of calibration, evaluation"),
        ({"texts": []}, "texts that are not empty"),
        ({"texts": ["a", " "]}, "texts that are not empty"),
    ],
)
def test_corpora_that_are_none(given: dict[str, Any], words: str) -> None:
    with pytest.raises(SparsityError, match=words):
        make_corpus(**{"name": "mine", "split": "evaluation", "texts": ["a"], **given})
