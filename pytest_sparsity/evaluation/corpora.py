"""Running text for calibration, training and perplexity, as sequences of passages.

Bundled text is in the public domain (``data/README.md``).  Per source, the calibration and
the evaluation split come from different books or from parts of a book with a gap between.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from types import MappingProxyType
from typing import Literal, get_args

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.files import OWN_NAME, sha256_text
from pytest_sparsity.evaluation.user_files import (
    is_path,
    json_objects,
    read_text,
    unknown_name,
    user_stem,
)

Split = Literal["calibration", "evaluation"]

#: Bundled sources and the licence of their text.
CORPORA: dict[str, str] = {
    "austen": "public domain (Jane Austen: Northanger Abbey, Persuasion)",
    "jargon": "public domain (The Jargon File, version 4.4.7, 29 Dec 2003)",
    "factbook": "public domain (CIA World Factbook, a work of the US government)",
}

#: Shortest passage, in characters: more than 512 tokens of a GPT-like tokenizer.
PASSAGE = 2_800

_DATA = Path(__file__).parent / "data" / "corpora"


@dataclass(frozen=True)
class Document:
    """One passage; ``id`` is the first 16 hex digits of the SHA-256 of its text."""

    id: str
    text: str
    source: str


@dataclass(frozen=True)
class Corpus:
    """Passages in a fixed order whose first *n* are a random sample of the source.

    A measurement takes the first *n* documents and the first tokens of each.  Bundled
    passages have at least 512 tokens; one that is shorter than a measurement needs (the
    user's own) is left out of it.
    """

    name: str
    split: Split
    documents: tuple[Document, ...]
    licence: str

    @property
    def hash(self) -> str:
        """Hex SHA-256 over the document ids in order."""
        return sha256_text(*(document.id for document in self.documents))


#: Corpora of others, by name and split.
Own = Mapping[tuple[str, Split], Corpus]
NONE: Own = MappingProxyType({})


def corpus(name: str, split: Split, own: Own = NONE) -> Corpus:
    """A bundled corpus, a mixture ("austen+jargon"), or the user's file.

    A ``.txt`` file is cut into passages at blank lines.  A ``.jsonl`` file has one object
    per line with the key ``text``; each text is cut in the same way and texts are never
    joined.  A user's file serves whichever split is asked for, so name two different ones
    (:func:`assert_disjoint` finds the mistake).

    Args:
        name: of a bundled corpus or one of ``own``, a mixture of such, or a path.
        split: what it is to serve.
        own: corpora of others.

    Raises:
        SparsityError: unknown name or split, a source without that split, or a file that
            is missing, empty, not UTF-8 or malformed.
    """
    if split not in get_args(Split):
        raise SparsityError(
            f"unknown corpus split {split!r}; known are {', '.join(get_args(Split))}"
        )
    if (name, split) in own:
        return own[name, split]
    if is_path(name):
        return _user_corpus(Path(name), split)
    if "+" in name:
        return mixed(name.split("+"), split, own)
    if name not in CORPORA:
        others = {offered for offered, _ in own}
        if name in others:
            raise SparsityError(
                f"corpus {name!r} of pytest_sparsity_corpora has no {split} split; return one of "
                "that split too, or choose another"
            )
        raise unknown_name("corpus", name, [*CORPORA, *sorted(others)], ".txt and .jsonl")
    path = _DATA / f"{name}.{split}.txt"
    if not path.exists():
        raise SparsityError(
            f"corpus {name!r} has no {split} split, it is kept for evaluation; "
            f"choose another of {', '.join(CORPORA)}"
        )
    return Corpus(name, split, _documents([read_text(path, "corpus")], name), CORPORA[name])


def make_corpus(
    name: str, split: Split, texts: Iterable[str], licence: str = "not stated"
) -> Corpus:
    """A corpus of one's own, for the hook ``pytest_sparsity_corpora``.

    Args:
        name: for ``--sparsity-corpora`` or ``--sparsity-calibration``.
        split: which of the two it is for; the texts of one must not be in the other.
        texts: cut into passages at blank lines, as files are, and never joined.
        licence: of the texts.

    Raises:
        SparsityError: the name is taken or cannot be, there is no such split, or no text.
    """
    place = f"make_corpus({name!r}, {split!r})"
    if name in CORPORA or not OWN_NAME.fullmatch(name) or is_path(name):
        raise SparsityError(
            f"{place}: that name is a bundled corpus' or a file's; use another one of letters, "
            "digits, dots, dashes and underscores"
        )
    if split not in get_args(Split):
        raise SparsityError(f"{place}: the split is one of {', '.join(get_args(Split))}")
    given = [texts] if isinstance(texts, str) else list(texts)
    if not given or not all(text.strip() for text in given):
        raise SparsityError(f"{place}: texts must be a list of texts that are not empty")
    return Corpus(name, split, _documents(given, name), licence)


def mixed(names: Sequence[str], split: Split, own: Own = NONE) -> Corpus:
    """Several corpora, one document of each in turn; the longer ones fill the end.

    Raises:
        SparsityError: as :func:`corpus`, or a name given twice.
    """
    if len(set(names)) < len(names):
        raise SparsityError(f"corpus mixture {'+'.join(names)!r} names a corpus twice")
    parts = [corpus(name, split, own) for name in names]
    turns = chain.from_iterable(zip_longest(*(part.documents for part in parts)))
    unique = {document.id: document for document in turns if document is not None}
    return Corpus(
        name="+".join(part.name for part in parts),
        split=split,
        documents=tuple(unique.values()),
        licence="; ".join(dict.fromkeys(part.licence for part in parts)),
    )


def assert_disjoint(one: Corpus, other: Corpus) -> None:
    """Refuse two corpora with a document in common, by document hash.

    Raises:
        SparsityError: names the first shared document and how it begins.
    """
    known = {document.id for document in one.documents}
    for document in other.documents:
        if document.id in known:
            begin = " ".join(document.text.split())[:60]
            raise SparsityError(
                f"the {one.split} corpus {one.name!r} and the {other.split} corpus "
                f"{other.name!r} share document {document.id} ({begin!r}); give different "
                "text for calibration and evaluation"
            )


def _user_corpus(path: Path, split: Split) -> Corpus:
    name = user_stem(path, "corpus", CORPORA)
    if path.suffix == ".txt":
        texts = [read_text(path, "corpus")]
    elif path.suffix == ".jsonl":
        texts = [_text(place, line) for place, line in json_objects(path, "corpus")]
    else:
        raise SparsityError(f"corpus file {path} must end in .txt or .jsonl")
    return Corpus(name, split, _documents(texts, name), "not stated (user's file)")


def _text(place: str, line: dict[str, object]) -> str:
    text = line.get("text")
    if not isinstance(text, str) or not text.strip():
        raise SparsityError(f"{place} needs the key 'text' with some text")
    return text


def _documents(texts: Iterable[str], source: str) -> tuple[Document, ...]:
    """Passages of all texts, without repeats, sorted by id.

    An id is a hash of the text, so this order is a fixed shuffle: it spreads the first
    documents over the source, and depends on no random generator or Python version.
    """
    passages = {passage for text in texts for passage in _passages(text)}
    ids = {hashlib.sha256(text.encode()).hexdigest()[:16]: text for text in passages}
    return tuple(Document(id, ids[id], source) for id in sorted(ids))


def _passages(text: str) -> list[str]:
    """Consecutive runs of whole paragraphs, each of at least ``PASSAGE`` characters.

    What remains at the end is joined to the last passage (or is one, when it is all).
    """
    passages: list[str] = []
    current = ""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    for paragraph in re.split(r"\n(?:[ \t]*\n)+", text.strip("\n")):
        current = f"{current}\n\n{paragraph}" if current else paragraph
        if len(current) >= PASSAGE:
            passages.append(current)
            current = ""
    if current.strip():
        if passages:
            passages[-1] += f"\n\n{current}"
        else:
            passages.append(current)
    return passages
