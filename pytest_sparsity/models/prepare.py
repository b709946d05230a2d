"""From what the user asked for to verified files on this machine."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.files import default_cache, sha256_file
from pytest_sparsity.core.progress import Progress, silent
from pytest_sparsity.models.acquire import Downloads, assemble
from pytest_sparsity.models.catalog import KNOWN, PackagedModel, RandomModel, ShippedModel
from pytest_sparsity.models.convert import GgufSource, converted
from pytest_sparsity.models.folder import check_folder, is_pointer, weight_files, weights_hash
from pytest_sparsity.models.hub import fetch
from pytest_sparsity.models.powerinfer_keys import MAGIC
from pytest_sparsity.models.tensors import refuse_or_warn
from pytest_sparsity.models.twin_loading import is_twin, read_twin, twin_name

_OFF_LINE = "pass a local folder or a GGUF file with --sparsity-model"


@dataclass(frozen=True)
class PreparedModel:
    """A model whose files are on this machine, verified.

    Attributes:
        name: short name, safe in test ids.
        source: what the user asked for.
        folder: holds configuration, weights and tokenizer; ``None`` for a model that is
            built in code.
        weights_hash: hex SHA-256 over the weight files; ``None`` where ``folder`` is.
    """

    name: str
    source: str
    folder: Path | None
    weights_hash: str | None


def prepare_model(
    name: str,
    *,
    cache: Path | None = None,
    progress: Progress = silent,
    allow_unused: bool = False,
    trust_remote_code: bool = False,
) -> PreparedModel:
    """Resolve, download and convert a model without building it.

    Does nothing but verify where that has been done; two processes may call it at once.

    Args:
        name: what was asked for.
        cache: the cache folder; the user's by default.
        progress: shows downloads and conversions.
        allow_unused: whether a GGUF file may hold tensors and keys that are not used.
        trust_remote_code: whether code is fetched with a model of the hub.

    Raises:
        SparsityError: the name is not known, the model cannot be had or converted, or something
            in a GGUF file is not used.
    """
    cache = cache if cache is not None else default_cache()
    known = KNOWN.get(name)
    path = Path(name).expanduser()
    if is_twin(name):
        read_twin(name, progress)
        return PreparedModel(short_name(name), name, None, None)
    if isinstance(known, RandomModel):
        return PreparedModel(known.name, name, None, None)
    if isinstance(known, ShippedModel):
        return _prepared_folder(known.folder, known.name, name)
    if isinstance(known, PackagedModel):
        ready = converted(_packaged(known, cache, progress), cache, progress)
        return PreparedModel(known.name, name, ready.folder, ready.weights_hash)
    if path.is_dir():
        return _prepared_folder(path, _safe(path.resolve().name), name)
    if path.suffix.lower() == ".gguf" and path.is_file():
        ready = converted(_user_gguf(path), cache, progress)
        if ready.unused:
            unused = (
                f"the file holds {', '.join(ready.unused)}, which transformers does not read, so "
                "that another model would be measured; pass a folder written by save_pretrained"
            )
            refuse_or_warn(name, unused, allowed=allow_unused)
        return PreparedModel(_safe(path.stem), name, ready.folder, ready.weights_hash)
    if _is_hub_id(name):
        folder = _hub_snapshot(name, progress, code=trust_remote_code)
        return _prepared_folder(folder, _safe(name.rpartition("/")[2]), name)
    raise _no_model(name)


def check_name(name: str) -> None:
    """Refuse what no model can be called; reads no model and asks no hub.

    Raises:
        SparsityError: it is neither a known name nor a folder, a GGUF file or a hub id.
    """
    path = Path(name).expanduser()
    gguf = path.suffix.lower() == ".gguf" and path.is_file()
    if not (name in KNOWN or is_twin(name) or path.is_dir() or gguf or _is_hub_id(name)):
        raise _no_model(name)


def _looks_like_path(name: str) -> bool:
    path = Path(name).expanduser()
    return path.is_absolute() or path.suffix == ".gguf" or name.startswith((".", "~"))


def _is_hub_id(name: str) -> bool:
    return not _looks_like_path(name) and bool(re.fullmatch(r"[\w.-]+/[\w.-]+", name))


def _no_model(name: str) -> SparsityError:
    path = Path(name).expanduser()
    if _looks_like_path(name) or path.exists() or "/" in name or "\\" in name:
        what = "is not a GGUF file or a folder" if path.exists() else "does not exist"
        return SparsityError(
            f"--sparsity-model {name}: {path} {what}; pass a folder written by save_pretrained, "
            f"a .gguf file, a hub id (org/name) or a known name ({', '.join(KNOWN)})"
        )
    close = difflib.get_close_matches(name, KNOWN, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return SparsityError(
        f"--sparsity-model {name!r} is not a known model; {hint}known are {', '.join(KNOWN)}; "
        "or pass a folder, a .gguf file or a hub id (org/name)"
    )


def _packaged(known: PackagedModel, cache: Path, progress: Progress) -> GgufSource:
    what = f"model {known.name}" + (f" ({known.notice})" if known.notice else "")

    def place(folder: Path) -> Path:
        to = Downloads(cache, what, _OFF_LINE, progress)
        assemble((known.terms,), folder / Path(known.terms.path).name, to)
        found = assemble(known.parts, folder / "model.gguf", to)
        if found != known.sha256:
            raise SparsityError(
                f"{what}: its packages hold a GGUF file with SHA-256 {found}, expected "
                f"{known.sha256}; update pytest-sparsity"
            )
        return folder / "model.gguf"

    return GgufSource(known.name, known.sha256, place, known=True)


def _user_gguf(path: Path) -> GgufSource:
    try:
        with path.open("rb") as stream:
            magic = stream.read(4)
        sha256 = sha256_file(path)
    except OSError as error:
        raise _cannot_read(path, error) from error
    if is_pointer(path):
        raise SparsityError(
            f"--sparsity-model {path} is a pointer of Git LFS and not the file; run `git lfs pull` "
            "in its folder, or download the file"
        )
    if magic not in (b"GGUF", MAGIC):
        raise SparsityError(
            f"--sparsity-model {path} is not a GGUF file (it does not begin with 'GGUF'); "
            "download it again or pass another file"
        )
    return GgufSource(_safe(path.stem), sha256, lambda _: path.resolve())


def _prepared_folder(folder: Path, short: str, name: str) -> PreparedModel:
    check_folder(folder, name)
    try:
        return PreparedModel(short, name, folder, weights_hash(folder))
    except OSError as error:
        raise _cannot_read(error.filename, error) from error


def _cannot_read(path: Path | str, error: OSError) -> SparsityError:
    return SparsityError(
        f"--sparsity-model: {path} cannot be read: {error.strerror}; fix the file or its "
        "permissions, or pass another model"
    )


def _hub_snapshot(name: str, progress: Progress, *, code: bool) -> Path:
    """The folder of a hub repository's model files in the hub client's own cache."""
    texts = ["*.json", "*.model", "*.txt", "*.jinja", *(["*.py"] if code else [])]
    # Subfolders and "consolidated" files hold the same weights in other formats.
    skip = ["*/*", "consolidated*"]
    folder = fetch(
        name,
        name,
        [*texts, "*.safetensors"],
        ignored=skip,
        otherwise=_OFF_LINE,
        progress=progress,
    )
    if not weight_files(folder):
        bins = [*texts, "pytorch_model*.bin"]
        fetch(name, name, bins, ignored=skip, otherwise=_OFF_LINE, progress=progress)
    return folder


def short_name(name: str) -> str:
    """The short name, safe in test ids, that ``prepare_model(name)`` will give."""
    if name in KNOWN:
        return name
    if is_twin(name):
        return _safe(twin_name(name))
    path = Path(name).expanduser()
    if path.is_dir():
        return _safe(path.resolve().name)
    return _safe(path.stem if path.suffix.lower() == ".gguf" else path.name)


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-") or "model"
