"""GGUF files converted once to folders that load in a moment.

Reading a GGUF file takes transformers many seconds, most of them in its dequantisation
and in building the tokenizer.  The result is kept as float32 safetensors (what the
quantised blocks stand for, exactly) with a manifest that is written last and holds the
hash of every file, and the folder is renamed into place whole.
"""

from __future__ import annotations

import errno
import importlib.metadata
import importlib.util
import json
import os
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.files import atomic_write, cannot_write, locked, sha256_file
from pytest_sparsity.core.progress import Phase, Progress, silent
from pytest_sparsity.models.backbone import find_sites, use_linear_layers
from pytest_sparsity.models.folder import combined_hash, weight_files
from pytest_sparsity.models.gguf_unused import unused_of
from pytest_sparsity.models.powerinfer_gguf import convert_powerinfer, open_powerinfer
from pytest_sparsity.models.tensors import check_complete
from pytest_sparsity.models.tokens import obey_gguf
from pytest_sparsity.models.upstream import failures_as, quiet

#: Raised when a folder written by an older version must not be used any more.
SCHEMA = 1
_MANIFEST = "manifest.json"


@dataclass(frozen=True)
class GgufSource:
    """Where a GGUF file comes from.

    Attributes:
        name: names the cache folder; safe in file names.
        sha256: of the GGUF file.
        place: makes the file available and returns its path; what else it writes to the
            folder it is given, such as a licence, is kept beside the converted weights.
        known: whether its activation is known to be that which transformers assumes.
    """

    name: str
    sha256: str
    place: Callable[[Path], Path]
    known: bool = False


@dataclass(frozen=True)
class Converted:
    """A verified folder with a converted model.

    Attributes:
        folder: where it is.
        weights_hash: over its weight files.
        unused: tensors and keys of the GGUF file that the model was made without.
    """

    folder: Path
    weights_hash: str
    unused: tuple[str, ...] = ()


def converted(source: GgufSource, cache: Path, progress: Progress = silent) -> Converted:
    """The folder in ``cache/models`` with the converted model, made first if need be.

    Every file is verified against the manifest; a folder that does not match is reported
    by a warning and made again.  Processes that ask at once wait and convert once.

    Raises:
        SparsityError: the source cannot be had or read, or the cache cannot be written.
    """
    # A major version of transformers cannot read the tokenizers that the next one writes.
    major = importlib.metadata.version("transformers").partition(".")[0]
    folder = cache / "models" / f"{source.name}-{source.sha256[:8]}-transformers{major}"
    found = _verify(folder, source)
    if isinstance(found, Converted):
        return found
    with locked(folder.with_name(f".{folder.name}.lock")):
        found = _verify(folder, source)
        if isinstance(found, Converted):
            return found
        # The lock is ours: a leftover here belongs to a process that was killed.
        staging = folder.with_name(f".{folder.name}.staging")
        try:
            shutil.rmtree(staging, ignore_errors=True)
            if folder.exists():
                shutil.rmtree(folder)
                warnings.warn(f"{folder} {found}; it is made again", stacklevel=2)
            staging.mkdir(parents=True)
            made = _build(source, staging, progress)
            os.replace(staging / "model", folder)
        except OSError as error:
            raise cannot_write(folder, error) from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return replace(made, folder=folder)


def _verify(folder: Path, source: GgufSource) -> Converted | str:
    """The folder if it is intact and from this source, else what is wrong with it."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_text())
        schema, made_from = manifest["schema"], manifest["source_sha256"]
        checked = bool(manifest.get("activation_checked", False)) and "unused" in manifest
        unused = tuple(map(str, manifest.get("unused", ())))
        files = {
            str(name): (int(f["size"]), str(f["sha256"])) for name, f in manifest["files"].items()
        }
        weights = {str(name): files[name][1] for name in manifest["weights"]}
    except FileNotFoundError:
        return "has no manifest"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "has an unreadable manifest"
    if schema != SCHEMA:
        return f"was written in format {schema!r}, this version reads {SCHEMA}"
    if made_from != source.sha256:
        return f"was made from another GGUF file (SHA-256 {made_from})"
    if not checked and not source.known:
        return "was made by a version that did not check its activation or what is not used"
    for name, (size, sha256) in files.items():
        path = folder / name
        # The cheap test first: a truncated file is told without reading it.
        if not path.is_file() or path.stat().st_size != size or sha256_file(path) != sha256:
            return f"holds a missing, truncated or changed file ({name})"
    return Converted(folder, combined_hash(weights), unused)


def _build(source: GgufSource, staging: Path, progress: Progress) -> Converted:
    """Convert into ``staging/model``."""
    original, folder = staging / "source", staging / "model"
    original.mkdir()
    folder.mkdir()
    gguf = source.place(original)
    with progress(f"convert {source.name}", total=4, unit="step") as task:
        unused = _convert(gguf, folder, task, known=source.known)
        for companion in original.iterdir():
            if companion != gguf:
                os.replace(companion, folder / companion.name)
        files = {path.name: path for path in sorted(folder.iterdir())}
        hashes = {name: sha256_file(path) for name, path in files.items()}
        weights = [path.name for path in weight_files(folder)]
        manifest = {
            "schema": SCHEMA,
            "name": source.name,
            "source_sha256": source.sha256,
            "dtype": "float32",
            "activation_checked": not source.known,
            "unused": unused,
            "weights": weights,
            "files": {
                name: {"size": path.stat().st_size, "sha256": hashes[name]}
                for name, path in files.items()
            },
            "versions": {
                package: importlib.metadata.version(package)
                for package in ("torch", "transformers", "gguf")
            },
        }
        atomic_write(folder / _MANIFEST, json.dumps(manifest, indent=1) + "\n")
        task.advance(note="hashes")
    weights_hash = combined_hash({name: hashes[name] for name in weights})
    return Converted(folder, weights_hash, tuple(unused))


def _convert(gguf: Path, folder: Path, task: Phase, *, known: bool) -> list[str]:
    """Write the model of a GGUF file to ``folder``; what of the file it was made without."""
    missing = [name for name in ("gguf", "accelerate") if importlib.util.find_spec(name) is None]
    if missing:
        raise SparsityError(
            f"reading {gguf.name} needs {' and '.join(missing)}; "
            f"run `pip install {' '.join(missing)}`"
        )
    if not known and (powerinfer := open_powerinfer(gguf)) is not None:
        convert_powerinfer(powerinfer, folder, task)
        return []
    import torch
    import transformers

    from pytest_sparsity.models.assumed import check_activation

    where: Any = {"gguf_file": gguf.name, "local_files_only": True}
    quantised: Any = {}
    if hasattr(transformers, "GgufConfig"):
        # Without it transformers 5 may keep blocks packed, in layers that are no nn.Linear.
        quantised["quantization_config"] = transformers.GgufConfig(dequantize=True)
    advice = "pass a GGUF file of a model that this version of transformers can read"
    with quiet(), failures_as(f"{gguf.name} cannot be converted", advice):
        tokenizer = transformers.AutoTokenizer.from_pretrained(gguf.parent, **where)
        obey_gguf(tokenizer, gguf)
        task.advance(note="tokenizer")
        loader: Any = transformers.AutoModelForCausalLM
        model, info = loader.from_pretrained(
            gguf.parent,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # told of by name below
            **where,
            **quantised,
        )
        task.advance(note="weights")
        check_complete(info)
        unused: list[str] = []
        if not known:
            check_activation(model, tokenizer, gguf.name)
            unused = unused_of(gguf, model, info["unexpected_keys"])
    # transformers refuses to save a model that came from GGUF, dequantised or not, unless
    # it forgets where it came from.
    model.hf_quantizer, model.is_quantized = None, False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    try:
        with quiet():
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
    except Exception as error:
        # safetensors reports a full disk in an error class of its own.
        if os.strerror(errno.ENOSPC) in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise
    task.advance(note="saved")
    use_linear_layers(model)  # not before it is saved
    packed = [s.name for s in find_sites(model) if type(s.module) is not torch.nn.Linear]
    if packed:
        raise SparsityError(
            f"{gguf.name} was not dequantised: site {packed[0]} is not a plain linear layer; "
            "install another version of transformers"
        )
    return unused
