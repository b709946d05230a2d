from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.evaluation import corpora
from pytest_sparsity.evaluation.corpora import CORPORA, PASSAGE, assert_disjoint, corpus, mixed
from pytest_sparsity.evaluation.tasks import TASKS

DATA = Path(corpora.__file__).parent / "data"
BUNDLED = [
    ("austen", "calibration", 120),
    ("jargon", "calibration", 120),
    ("austen", "evaluation", 96),
    ("jargon", "evaluation", 96),
    ("factbook", "evaluation", 96),
]


def table() -> dict[str, tuple[int, str, str]]:
    """The files that README.md lists: size, SHA-256, licence."""
    rows = re.findall(
        r"^\| `([^`]+)` \| (\d+) \| `([0-9a-f]{64})` \| (.+) \|$",
        (DATA / "README.md").read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )
    return {name: (int(size), sha, licence) for name, size, sha, licence in rows}


def test_the_readme_lists_exactly_the_files_and_their_content() -> None:
    files = {
        path.relative_to(DATA).as_posix(): path.read_bytes()
        for folder in ("corpora", "tasks")
        for path in (DATA / folder).iterdir()
    }
    listed = {name: (size, sha) for name, (size, sha, _) in table().items()}
    assert listed == {
        name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in files.items()
    }


def test_every_file_has_the_licence_that_its_results_report() -> None:
    for name, (_, _, licence) in table().items():
        stem = Path(name).name.split(".")[0]
        assert licence == (CORPORA[stem] if "corpora" in name else TASKS[stem].licence)
        assert re.match("public domain|ODC-BY|CC BY|MIT|Apache-2.0", licence), name
        assert not re.search(r"\bNC\b", licence), name


def test_vendored_text_is_small_and_free_of_foreign_headers() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (DATA / "corpora").glob("*.txt")]
    assert sum(len(text.encode()) for text in texts) < 2_250_000
    for text in texts:
        assert not re.search("gutenberg(-tm|™| e-?book| license)|signet classic", text, re.I)


def test_the_notice_of_the_jargon_file_is_kept() -> None:
    notice = (DATA / "corpora" / "jargon.NOTICE.txt").read_text(encoding="utf-8")
    assert "is in the public domain" in notice
    assert "version 4.4.7" in notice
    assert "4.4.7" in corpus("jargon", "evaluation").licence


@pytest.mark.parametrize(("name", "split", "least"), BUNDLED)
def test_bundled_passages(name: str, split: corpora.Split, least: int) -> None:
    found = corpus(name, split)
    assert len(found.documents) >= least
    assert min(len(document.text) for document in found.documents) >= PASSAGE
    assert len({document.id for document in found.documents}) == len(found.documents)
    assert {document.source for document in found.documents} == {name}
    for document in found.documents:
        assert document.id == hashlib.sha256(document.text.encode()).hexdigest()[:16]


def test_the_first_documents_are_spread_over_the_book() -> None:
    text = (DATA / "corpora" / "austen.evaluation.txt").read_text(encoding="utf-8")
    firsts = [
        document.text.split("\n\n")[0] for document in corpus("austen", "evaluation").documents
    ]
    places = [text.index(first) / len(text) for first in firsts[:16]]
    assert min(places) < 0.2
    assert max(places) > 0.8
    assert places != sorted(places)


def test_the_hash_depends_on_the_documents_and_their_order() -> None:
    found = corpus("austen", "evaluation")
    again = corpus("austen", "evaluation")
    turned = corpora.Corpus("austen", "evaluation", found.documents[::-1], found.licence)
    assert found.hash == again.hash
    assert len({found.hash, turned.hash, corpus("austen", "calibration").hash}) == 3


def test_bundled_splits_are_disjoint() -> None:
    calibration = mixed(["austen", "jargon"], "calibration")
    for name in CORPORA:
        assert_disjoint(calibration, corpus(name, "evaluation"))


def test_no_paragraph_of_the_calibration_text_is_in_the_evaluation_text() -> None:
    # Disjoint passages could still share text; long enough paragraphs do not repeat by chance.
    def paragraphs(name: str, split: corpora.Split) -> set[str]:
        documents = corpus(name, split).documents
        parts = (part for document in documents for part in document.text.split("\n\n"))
        return {part.strip() for part in parts if len(part) > 120}

    for name in ("austen", "jargon"):
        assert not paragraphs(name, "calibration") & paragraphs(name, "evaluation")


def test_a_shared_document_is_named() -> None:
    one = corpus("austen", "evaluation")
    shared = corpora.Corpus("mine", "calibration", one.documents[5:6], "mine")
    with pytest.raises(SparsityError) as error:
        assert_disjoint(shared, one)
    message = str(error.value)
    assert message.startswith("the calibration corpus 'mine' and the evaluation corpus 'austen'")
    assert f"share document {one.documents[5].id}" in message


def test_a_mixture_takes_turns_and_its_name_is_a_corpus_name() -> None:
    found = mixed(["austen", "jargon"], "calibration")
    assert found.name == "austen+jargon"
    assert [document.source for document in found.documents[:4]] == ["austen", "jargon"] * 2
    parts = [corpus(name, "calibration") for name in ("austen", "jargon")]
    assert len(found.documents) == sum(len(part.documents) for part in parts)
    assert found.licence == f"{CORPORA['austen']}; {CORPORA['jargon']}"
    assert corpus("austen+jargon", "calibration") == found


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        (
            "austin",
            "evaluation",
            "unknown corpus 'austin', did you mean 'austen'? known are austen",
        ),
        (
            "zzz",
            "evaluation",
            "unknown corpus 'zzz'; known are austen, jargon, factbook, and paths",
        ),
        ("austen", "test", "unknown corpus split 'test'; known are calibration, evaluation"),
        ("factbook", "calibration", "corpus 'factbook' has no calibration split"),
        ("austen+austen", "evaluation", "corpus mixture 'austen+austen' names a corpus twice"),
        ("austen+", "evaluation", "unknown corpus ''"),
    ],
)
def test_bad_names(name: str, split: corpora.Split, message: str) -> None:
    with pytest.raises(SparsityError) as error:
        corpus(name, split)
    assert message in str(error.value)


def test_a_text_file_is_cut_at_blank_lines(tmp_path: Path) -> None:
    paragraphs = [f"{number} " + "word " * 200 for number in range(10)]
    path = tmp_path / "mine.txt"
    path.write_text("\r\n \r\n".join(paragraphs), newline="")
    found = corpus(str(path), "calibration")
    assert found.name == "mine"
    assert found.split == "calibration"
    texts = sorted((document.text for document in found.documents), key=lambda text: text[0])
    # Three paragraphs each; the one that remains joins the last passage.
    assert texts == ["\n\n".join(paragraphs[a:b]) for a, b in ((0, 3), (3, 6), (6, 10))]


def test_indentation_within_a_passage_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("head\n\n    indented\n")
    assert corpus(str(path), "evaluation").documents[0].text == "head\n\n    indented"


def test_blank_lines_of_windows_cut_a_jsonl_text_as_others_do(tmp_path: Path) -> None:
    paragraphs = [f"{number} " * 700 for number in range(20)]
    found = []
    for number, end in enumerate(("\n", "\r\n", "\r")):
        path = tmp_path / f"mine{number}.jsonl"
        path.write_text(json.dumps({"text": f"{end}{end}".join(paragraphs)}))
        found.append([document.text for document in corpus(str(path), "evaluation").documents])
    assert len(found[0]) == 10
    assert found[0] == found[1] == found[2]


def test_a_jsonl_file_has_a_text_per_line_and_repeats_count_once(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in ("one", "two", "one")))
    texts = {document.text for document in corpus(str(path), "evaluation").documents}
    assert texts == {"one", "two"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", b" \n\n", "is empty"),
        ("latin.txt", "caf\u00e9".encode("latin-1"), "is not UTF-8 text (byte 3); convert it"),
        ("table.csv", b"a,b", "must end in .txt or .jsonl"),
        ("broken.jsonl", b'{"text": "a"}\n{"text": ', "line 2 is not valid JSON"),
        (
            "twice.jsonl",
            b'{"text": "a", "text": "b"}',
            "line 1 is not valid JSON: the key 'text' stands twice in one object",
        ),
        ("list.jsonl", b"[1]", "line 1 is not a JSON object but list"),
        ("other.jsonl", b'{"body": "a"}', "line 1 needs the key 'text' with some text"),
        ("austen.txt", b"text", "has the name of the bundled corpus 'austen'; rename it"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SparsityError) as error:
        corpus(str(path), "evaluation")
    assert str(path) in str(error.value)
    assert message in str(error.value)


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(SparsityError, match=r"corpus file .*gone\.txt does not exist"):
        corpus(str(tmp_path / "gone.txt"), "evaluation")
    folder = tmp_path / "folder.txt"
    folder.mkdir()
    with pytest.raises(SparsityError, match=r"cannot read corpus file .*folder\.txt: "):
        corpus(str(folder), "evaluation")
