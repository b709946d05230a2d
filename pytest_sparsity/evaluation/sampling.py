"""Which documents of a corpus a seed draws."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import replace

from pytest_sparsity.evaluation.corpora import Corpus, Document


def drawn(corpus: Corpus, seed: int) -> Corpus:
    """The corpus in the order of ``seed``: its first *n* documents are the seed's sample of *n*.

    A sample is without replacement, and a larger one extends a smaller one: more data that are
    drawn add documents to those that were measured.  Seed 0 keeps the corpus in its own order,
    which is a fixed shuffle.  Other seeds shuffle each source by itself and leave the turns that
    sources take, so that a mixture stays one.

    Args:
        corpus: to be drawn from.
        seed: 0 or more.
    """
    if seed == 0:
        return corpus
    by_source: dict[str, list[Document]] = defaultdict(list)
    for document in corpus.documents:
        by_source[document.source].append(document)
    # Sorted by hashes: the same on every platform and Python version.
    turns = {s: iter(sorted(own, key=lambda d: _rank(seed, d))) for s, own in by_source.items()}
    documents = tuple(next(turns[document.source]) for document in corpus.documents)
    return replace(corpus, documents=documents)


def _rank(seed: int, document: Document) -> bytes:
    return hashlib.sha256(f"{seed}:{document.id}".encode()).digest()
