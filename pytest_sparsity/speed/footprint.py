"""The memory that scoring documents takes, measured in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch

from pytest_sparsity.core.memory import resident_bytes
from pytest_sparsity.evaluation.perplexity import Window, dense_states, score_documents
from pytest_sparsity.methods.attach import sparsify
from pytest_sparsity.methods.plan import Plan
from pytest_sparsity.models import LanguageModel, load_model


@dataclass(frozen=True)
class Footprint:
    """Resident memory of a process, in bytes.

    Attributes:
        before: when everything is imported, which scoring a tiny model has made sure of.
        loaded: the most until the model was loaded.
        peak: the most at any time.
    """

    before: int
    loaded: int
    peak: int


def weight_bytes(model: LanguageModel) -> int:
    """Bytes of a model's parameters; tied ones count once."""
    return sum(p.numel() * p.element_size() for p in model.model.parameters())


def scoring_footprint(
    model: LanguageModel, plan: Plan, documents: Sequence[Window], cache: Path
) -> Footprint:
    """Load ``model`` again in a fresh process and score ``documents`` there, dense and sparse.

    It is all that one perplexity cell does: the dense model's hidden states, and scores with
    the divergence from them and with the achieved sparsity counted.

    Args:
        model: what to load.
        plan: attached for the sparse scores.
        documents: token windows.
        cache: where converted models are kept.

    Raises:
        SparsityError: the model cannot be had any more.
        FileNotFoundError: the system is not Linux; see ``core.memory.can_measure_memory``.
    """
    # Token lists, because tensors would be passed through shared memory.
    texts = [(document.id, document.tokens.tolist()) for document in documents]
    dtype = str(model.dtype).removeprefix("torch.")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        trusted = type(model.model).__module__.startswith("transformers_modules")
        work = process.submit(
            _score, model.source, dtype, str(model.device), cache, plan, texts, trusted
        )
        return work.result()


def _score(
    source: str,
    dtype: str,
    device: str,
    cache: Path,
    plan: Plan,
    texts: Sequence[tuple[str, list[int]]],
    trusted: bool,
) -> Footprint:
    """Runs in the fresh process, which has imported this module to find it."""
    documents = [Window(id, torch.tensor(tokens)) for id, tokens in texts]
    # transformers imports much only when a model is made.
    tiny = load_model("tiny-random", dtype=dtype, device=device, cache=cache)
    score_documents(tiny, [Window("", torch.zeros(2, dtype=torch.int64))])
    before = resident_bytes("VmRSS")

    # What in its files is not used was refused or told of where it was loaded first, and so was
    # code that comes with it.
    model = load_model(
        source,
        dtype=dtype,
        device=device,
        cache=cache,
        allow_unused=True,
        trust_remote_code=trusted,
    )
    loaded = resident_bytes("VmHWM")
    score_documents(model, documents)
    reference = dense_states(model, documents)
    with sparsify(model, plan) as attached:
        attached.counting = True
        score_documents(model, documents, reference)
    return Footprint(before, loaded, resident_bytes("VmHWM"))
