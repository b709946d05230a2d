"""From a model and the name of a compression to the model with its weights compressed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.files import locked, sha256_text
from pytest_sparsity.core.progress import Progress, silent
from pytest_sparsity.models import LanguageModel
from pytest_sparsity.models.compression import pruning, quantisation, stored
from pytest_sparsity.models.compression.checks import check
from pytest_sparsity.models.compression.hessian import second_moment
from pytest_sparsity.models.compression.names import CASTS, LOADED, Scheme, parse
from pytest_sparsity.models.compression.sequence import (
    Replace,
    Statistic,
    compress_in_sequence,
    put,
)
from pytest_sparsity.models.parallel import in_parallel
from pytest_sparsity.reference import quantization


@dataclass(frozen=True)
class Compressed:
    """A model whose weights were compressed.

    Attributes:
        model: over the same embeddings and head, with weights of its own at the sites; of a
            cast, with a copy of everything.
        provenance: ``scheme``, ``zeros`` (share of the sites' weights that is zero), ``bits``
            (stored per weight, scales included, zeros not left out), ``calibration_tokens`` and
            ``seconds``; of loaded weights ``scheme`` alone.
    """

    model: LanguageModel
    provenance: Mapping[str, Any]


def compress(
    model: LanguageModel,
    name: str,
    tokens: Sequence[torch.Tensor] = (),
    cache: Path | None = None,
    progress: Progress = silent,
) -> Compressed:
    """Compress the matrices of the decoder blocks; ``model`` itself is not touched.

    Args:
        model: as loaded, nothing attached.
        name: of a compression, see :mod:`pytest_sparsity.models.compression`.
        tokens: calibration documents of one length, int64 [T] each, for those that need them.
        cache: folder in which calibrated weights are kept; None keeps nothing.
        progress: shows blocks or layers.

    Raises:
        SparsityError: the name is not known, the scheme does not fit the model's shapes, its
            weights are packed already, it is a cast to the dtype that they have, or it needs
            text and there is none.
    """
    if name == LOADED:
        return Compressed(model, {"scheme": LOADED})
    scheme = parse(name)
    check(model, scheme)
    weights_hash = compressed_hash(model, name, tokens)
    twin = replace(model.twin(compressed_dtype(model, name)), weights_hash=weights_hash)
    if not scheme.calibrated or cache is None:
        return _compressed(twin, scheme, tokens, progress)
    path = stored.path(cache, twin, scheme, _source_hash())
    with locked(path.with_suffix(".lock")):
        if (provenance := stored.read(path, twin)) is not None:
            return Compressed(twin, provenance)
        found = _compressed(twin, scheme, tokens, progress)
        stored.write(path, twin, found.provenance)
        return found


def compressed_hash(model: LanguageModel, name: str, tokens: Sequence[torch.Tensor] = ()) -> str:
    """The weights' hash that :func:`compress` gives its result, without compressing.

    It follows from the loaded weights' hash, the scheme and, if it looks at it, the text; like
    that of loaded weights it is the same for every dtype.  Only a cast's depends on the dtype
    that it is made from, which its own does not tell.
    """
    if name == LOADED:
        return model.weights_hash
    scheme = parse(name)
    text = ";".join(",".join(map(str, t.tolist())) for t in tokens) if scheme.calibrated else ""
    rounded = [str(model.dtype)] if name in CASTS else []
    return sha256_text(model.weights_hash, scheme.name, text, *rounded)


def compressed_dtype(model: LanguageModel, name: str) -> torch.dtype:
    """The dtype of what :func:`compress` gives, without compressing."""
    if name not in CASTS:
        return model.dtype
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def _compressed(
    twin: LanguageModel, scheme: Scheme, tokens: Sequence[torch.Tensor], progress: Progress
) -> Compressed:
    started, label = time.monotonic(), f"compress {twin.name} to {scheme.name}"
    if scheme.calibrated:
        compress_in_sequence(twin, tokens, *_calibrated(scheme), progress, label)
    elif scheme.kind not in CASTS:
        one = _uncalibrated(scheme)
        weights = [site.module.weight.detach() for site in twin.sites]
        with progress(label, len(weights), "matrix") as task:
            made = in_parallel(one, weights, device=twin.device)
            for site, weight in zip(twin.sites, made, strict=True):
                put(site, weight)
                task.advance()
    if not all(bool(site.module.weight.isfinite().all()) for site in twin.sites):
        raise SparsityError(
            f"weights {scheme.name}: compressing {twin.name} gave NaN or infinity; use "
            "--sparsity-dtype float32"
        )
    provenance = {
        "scheme": scheme.name,
        "zeros": _zeros(twin),
        "bits": _bits(twin, scheme),
        "calibration_tokens": sum(map(len, tokens)) if scheme.calibrated else 0,
        "seconds": round(time.monotonic() - started, 1),
    }
    return Compressed(twin, provenance)


def _calibrated(scheme: Scheme) -> tuple[Statistic, Replace]:
    if scheme.kind == "wanda":
        return pruning.mean_square, partial(pruning.wanda, scheme=scheme)
    if scheme.kind == "sparsegpt":
        return second_moment, partial(pruning.sparsegpt, scheme=scheme)
    return second_moment, partial(quantisation.gptq4, group=scheme.group)


def _uncalibrated(scheme: Scheme) -> Any:
    if scheme.kind == "int8":
        return quantisation.int8
    if scheme.kind == "int4":
        return partial(quantisation.int4, group=scheme.group)
    return partial(pruning.magnitude, scheme=scheme)


def _zeros(model: LanguageModel) -> float:
    weights = [site.module.weight for site in model.sites]
    nonzero = sum(int(torch.count_nonzero(weight)) for weight in weights)
    return 1 - nonzero / sum(weight.numel() for weight in weights)


def _bits(model: LanguageModel, scheme: Scheme) -> float:
    """Bits per weight as stored, scales included; where weights are pruned, before zeros go."""
    own = 8 * model.sites[0].module.weight.element_size()
    if scheme.group:
        return 4 + own / scheme.group
    if scheme.kind != "int8":
        return float(own)
    shapes = [site.module.weight.shape for site in model.sites]
    return 8 + own * sum(n for n, _ in shapes) / sum(n * k for n, k in shapes)


@cache
def _source_hash() -> str:
    """Identifies the code that stored weights depend on."""
    files = [*sorted(Path(__file__).parent.glob("*.py")), Path(quantization.__file__)]
    return sha256_text(*(file.read_text(encoding="utf-8") for file in files))[:16]
