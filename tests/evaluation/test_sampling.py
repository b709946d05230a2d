"""Which documents a seed draws of a corpus."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pytest_sparsity.evaluation.corpora import Corpus, Document, corpus, mixed
from pytest_sparsity.evaluation.sampling import drawn


def ids(found: Corpus) -> list[str]:
    return [document.id for document in found.documents]


def test_seed_0_keeps_the_corpus_as_it_is() -> None:
    text = corpus("austen", "evaluation")
    assert drawn(text, 0) is text


def test_other_seeds_draw_other_documents_and_the_same_every_time() -> None:
    text = corpus("austen", "evaluation")
    samples = [set(ids(drawn(text, seed))[:12]) for seed in (0, 1, 2)]
    assert len(set().union(*samples)) > 24  # of 36; 12 of 144 are hardly ever the same
    assert drawn(text, 1) == drawn(text, 1)
    assert drawn(text, 1).hash not in (text.hash, drawn(text, 2).hash)


def test_the_order_of_a_seed_stays_on_every_machine() -> None:
    assert ids(drawn(corpus("austen", "evaluation"), 1))[:3] == FIRST


#: By sorting SHA-256 of "1:ID".
FIRST = ["5921fe489e8bfc8e", "6777c24cae52e7e7", "3d115e817719c143"]


@given(
    sources=st.lists(st.sampled_from("abc"), min_size=1, max_size=40),
    seed=st.integers(1, 2**40),
)
def test_every_document_is_drawn_once_and_sources_keep_their_turns(
    sources: Sequence[str], seed: int
) -> None:
    documents = tuple(Document(f"{n:016x}", str(n), source) for n, source in enumerate(sources))
    found = drawn(Corpus("x", "evaluation", documents, ""), seed)
    assert sorted(ids(found)) == [document.id for document in documents]
    assert [document.source for document in found.documents] == list(sources)


def test_all_documents_come_up_equally_often() -> None:
    """In 2,000 seeds the first 3 of 10 hold each one 600 times; 5 standard deviations are 102."""
    documents = tuple(Document(f"{n:016x}", str(n), "s") for n in range(10))
    text = Corpus("x", "evaluation", documents, "")
    firsts = [id for seed in range(1, 2001) for id in ids(drawn(text, seed))[:3]]
    assert all(abs(firsts.count(document.id) - 600) < 102 for document in documents)


def test_a_mixture_stays_one() -> None:
    text = mixed(["austen", "factbook"], "evaluation")
    found = drawn(text, 3)
    assert {document.source for document in found.documents[:2]} == {"austen", "factbook"}
    assert set(ids(found)[:40]) != set(ids(text)[:40])


def test_files_of_the_user_are_drawn_from_too(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(json.dumps({"text": f"text {n}"}) for n in range(50)))
    text = corpus(str(path), "evaluation")
    assert set(ids(drawn(text, 1))[:20]) != set(ids(text)[:20])
