"""What is compared: a report folder, logged samples of others, a model, or a git revision."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from pytest_sparsity.core.errors import SparsityError

_MODEL, _REVISION = "model:", "rev:"


class Kind(Enum):
    """What one of the two is."""

    REPORT = "a report folder"
    SAMPLES = "logged samples"
    MODEL = "a model"
    REVISION = "a git revision"


@dataclass(frozen=True)
class Side:
    """One of the two that are compared.

    Attributes:
        option: ``A`` or ``B``, for messages.
        text: what it is, without a prefix.
        kind: of what kind.
        files: the report folder, or the files of samples.
    """

    option: str
    text: str
    kind: Kind
    files: tuple[Path, ...] = ()

    @property
    def is_measured(self) -> bool:
        """Whether it has to be measured first."""
        return self.kind in (Kind.MODEL, Kind.REVISION)


def side_of(option: str, text: str) -> Side:
    """What a word names: files first, then known models, git revisions, and ids of the hub.

    Raises:
        SparsityError: none of them.
    """
    if text.startswith(_MODEL):
        return Side(option, text.removeprefix(_MODEL), Kind.MODEL)
    if text.startswith(_REVISION):
        return Side(option, text.removeprefix(_REVISION), Kind.REVISION)
    path = Path(text).expanduser()
    if path.exists():
        return _of_files(option, text, path)
    if _is_known_model(text):
        return Side(option, text, Kind.MODEL)
    if _is_revision(text):
        return Side(option, text, Kind.REVISION)
    owner, _, name = text.partition("/")
    if owner.strip("~.") and name and "/" not in name and not path.suffix.startswith(".json"):
        return Side(option, text, Kind.MODEL)
    raise SparsityError(
        f"{option} {text}: there is no such file or folder, and it is neither a known model, nor a "
        "revision of a git repository here, nor an id of the hub (org/name); name one of those"
    )


def _of_files(option: str, text: str, path: Path) -> Side:
    from pytest_sparsity.evaluation.logged_samples import sample_files
    from pytest_sparsity.sweep.store import FILE as RECORDS

    folder = path.parent if path.name == RECORDS else path
    if (folder / RECORDS).is_file() and folder.is_dir():
        return Side(option, text, Kind.REPORT, (folder,))
    if path.suffix.lower() == ".gguf" or (path / "config.json").is_file():
        return Side(option, text, Kind.MODEL)
    if files := sample_files(path, option):
        return Side(option, text, Kind.SAMPLES, tuple(files))
    what = "the folder is empty" if path.is_dir() and not any(path.iterdir()) else "it holds"
    none = "" if what.endswith("empty") else " none of these"
    raise SparsityError(
        f"{option} {text}: {what}{none}; name a folder with {RECORDS} (a report), with "
        "samples_*.jsonl (of lm-eval, with --log_samples) or with config.json (a model)"
    )


def _is_known_model(text: str) -> bool:
    from pytest_sparsity.models.catalog import KNOWN
    from pytest_sparsity.models.twin_loading import is_twin

    return text in KNOWN or is_twin(text)


def _is_revision(text: str) -> bool:
    from pytest_sparsity.core.git import commit_of, repository_of

    if text.startswith("-"):
        return False
    repository = repository_of(os.getcwd())
    return repository is not None and commit_of(repository, text) is not None
