"""The text that the ReLU model is trained on: public domain, and in no evaluation split."""

from __future__ import annotations

import io
import re
import struct
import sys
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from pytest_sparsity.core.files import sha256_file, sha256_text
from pytest_sparsity.evaluation.corpora import CORPORA

DATA = Path(__file__).resolve().parent.parent / "pytest_sparsity" / "evaluation" / "data"

#: The Debian package with Jane Austen's novels, and how each that is used begins.  The other two
#: are in this repository: Northanger Abbey for calibration and Persuasion for evaluation.
NOVELS = "r-cran-janeaustenr_1.0.0-1_all.deb"
NOVELS_SHA256 = "df6bddf211906d1ff404f8ff662c21b34e6660e7f54a311084e749050c019c95"
TITLES = {
    "SENSE AND SENSIBILITY": "sense_and_sensibility",
    "PRIDE AND PREJUDICE": "pride_and_prejudice",
    "MANSFIELD PARK": "mansfield_park",
    "EMMA": "emma",
}
_LONGEST_SHARED = 100  # characters: shorter paragraphs ("Yes, sir.") may occur anywhere


def training_texts(novels: Path) -> dict[str, str]:
    """Name to text, in a fixed order.

    Args:
        novels: the package ``NOVELS``.
    """
    if sha256_file(novels) != NOVELS_SHA256:
        sys.exit(f"{novels} is not {NOVELS} (SHA-256 {NOVELS_SHA256})")
    texts = {}
    for book in _strings(_lazy_data(novels)):
        name = TITLES.get(book[0].strip())
        if name is not None:
            texts[name] = "\n".join(book).strip("\n") + "\n"
    if set(texts) != set(TITLES.values()):
        sys.exit(f"{novels} holds only {sorted(texts)}")
    for corpus in CORPORA:
        path = DATA / "corpora" / f"{corpus}.calibration.txt"
        if path.exists():
            texts[path.stem] = path.read_text(encoding="utf-8")
    return {name: texts[name] for name in sorted(texts)}


def check_disjoint(texts: dict[str, str]) -> int:
    """Paragraphs that were compared; exits if one of an evaluation split is trained on."""
    trained = {each for text in texts.values() for each in _paragraphs(text)}
    kept = 0
    for path in sorted((DATA / "corpora").glob("*.evaluation.txt")):
        for each in _paragraphs(path.read_text(encoding="utf-8")):
            kept += 1
            if each in trained:
                sys.exit(f"a paragraph of {path.name} is in the training text")
    return kept


def _paragraphs(text: str) -> Iterator[str]:
    """Hashes of the longer paragraphs, whatever their line breaks."""
    for paragraph in re.split(r"\n\s*\n", text):
        words = " ".join(paragraph.split())
        if len(words) > _LONGEST_SHARED:
            yield sha256_text(words)


def _lazy_data(package: Path) -> bytes:
    """The package's R data: a Debian package is an ``ar`` archive around a tar archive."""
    content = package.read_bytes()
    place = len(b"!<arch>\n")
    while place < len(content):
        name = content[place : place + 16].decode().strip()
        size = int(content[place + 48 : place + 58])
        place += 60
        if name.startswith("data.tar"):
            with tarfile.open(fileobj=io.BytesIO(content[place : place + size])) as archive:
                for member in archive:
                    if member.name.endswith("/data/Rdata.rdb"):
                        stream = archive.extractfile(member)
                        assert stream is not None
                        return stream.read()
        place += size + size % 2
    sys.exit(f"{package} holds no R data")


def _strings(database: bytes) -> Iterator[list[str]]:
    """The vectors of strings in R's lazy-load format: size, then a zlib stream, and again."""
    place = 0
    while place < len(database):
        unpacker = zlib.decompressobj()
        content = unpacker.decompress(database[place + 4 :])
        place = len(database) - len(unpacker.unused_data)
        # b"X\n", three versions, the length and name of the encoding; then type and count.
        head = 18 + struct.unpack_from(">i", content, 14)[0]
        kind, count = struct.unpack_from(">2i", content, head)
        if kind & 0xFF == 16:
            yield list(_items(content, head + 8, count))


def _items(content: bytes, place: int, count: int) -> Iterator[str]:
    for _ in range(count):
        _, size = struct.unpack_from(">2i", content, place)
        yield content[place + 8 : place + 8 + size].decode("utf-8")
        place += 8 + size
