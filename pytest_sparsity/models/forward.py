"""Forward passes in two halves: the decoder once per document, the head where it is needed.

The logits of a document need vocabulary x tokens floats, far more than everything else, so
they are made a few rows at a time and never kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.models.cached import first_cache, repeated, run_decoder
from pytest_sparsity.models.language_model import LanguageModel
from pytest_sparsity.models.packing import packing
from pytest_sparsity.models.parallel import in_parallel

_ROWS = 128  # logits made at a time: enough for an efficient product
_VALUES = 400_000  # log-probabilities made at a time on a CPU: 1.6 MB, which its caches hold

_FACTORS = ("logit_scale", "lm_head_multiplier")  # of logits: Cohere, Falcon-H1
_DIVISORS = ("logits_mup_width_multiplier",)  # of hidden states: Inkling
#: Softly, at most so much: Gemma, RecurrentGemma, xLSTM.
_CAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")


def hidden_states(
    model: LanguageModel,
    tokens: torch.Tensor,
    positions: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    prefix: Any = None,
) -> torch.Tensor:
    """Last hidden states, after the final norm: [T, H] of one sequence, [B, T, H] of several.

    Args:
        model: dense or with a plan attached.
        tokens: int64 [T], or [B, T] without padding.
        positions: int64 [T], for packed sequences.
        mask: additive attention mask [T, P + T] in the model's dtype, for packed sequences.
        prefix: :func:`run_prefix` of P tokens that stand before each of them; left as it is.
    """
    ids = tokens if tokens.dim() == 2 else tokens[None]
    with in_turn(model):
        cache = None if prefix is None else repeated(prefix, len(ids))
        output = run_decoder(model, ids, positions, mask, cache)
    hidden: torch.Tensor = output.last_hidden_state
    return hidden if tokens.dim() == 2 else hidden[0]


def run_prefix(model: LanguageModel, tokens: torch.Tensor, after: Any = None) -> Any:
    """The cache of one sequence, int64 [P], for what comes after it.

    Args:
        model: that can go on from a cache, see :func:`~.packing.packing`.
        tokens: of the sequence, those that ``after`` stands for not among them.
        after: cache of what stands before them, left as it is; None for nothing.
    """
    with in_turn(model):
        if after is None:
            return first_cache(model, tokens[None])
        output = run_decoder(model, tokens[None], cache=repeated(after, 1))
        return getattr(output, model.cache_name)


@contextmanager
def in_turn(model: LanguageModel) -> Iterator[None]:
    """For passes of a new sequence: a model that keeps something of a pass has forgotten the last.

    Such a model runs for one thread at a time; others are not held up.
    """
    how = packing(model)
    if not how.one_at_a_time:
        yield
        return
    with model._passes.turn:
        for rope in how.ropes:
            rope.forget(model.device)
        for path, name in how.kept:  # RecurrentGemma's states, which transformers 4 leaves there
            setattr(model.model.get_submodule(path), name, None)
        yield


def logits(model: LanguageModel, hidden: torch.Tensor) -> torch.Tensor:
    """Logits [R, V] of hidden states [R, H], in the dtype of the model's head."""
    config = model.model.config
    for name in _DIVISORS:
        if (divisor := getattr(config, name, None)) is not None:
            hidden = hidden / divisor
    if model.before_head is not None:
        hidden = model.before_head(hidden)
    if hidden.dtype == torch.float32 and model.dtype != torch.float32:
        # Mamba keeps its residual stream in float32, and rounds before the head.
        hidden = hidden.to(getattr(model.head, "weight", hidden).dtype)
    out: torch.Tensor = model.head(hidden)
    if (size := getattr(config, "unpadded_vocab_size", None)) is not None:
        out = out[..., :size]
    for name in _FACTORS:
        if (factor := getattr(config, name, None)) is not None:
            out = out * factor
    if (scaling := getattr(config, "logits_scaling", None)) is not None:  # Granite divides by it
        out = out * scaling if config.model_type == "hyperclovax" else out / scaling
    for name in _CAPS:
        if (cap := getattr(config, name, None)) is not None:
            out = cap * torch.tanh(out / cap)
    return out


def log_probabilities(
    model: LanguageModel, hidden: torch.Tensor
) -> Iterator[tuple[slice, torch.Tensor]]:
    """Log-softmax of the logits of hidden states [R, H], a few rows at a time.

    Yields:
        (rows, their log-probabilities [r, V] in float32), in order.
    """
    for rows in in_rows(len(hidden)):
        made = logits(model, hidden[rows])
        for part in in_blocks(made):
            yield slice(rows.start + part.start, rows.start + part.stop), log_softmax(made[part])


def log_softmax(values: torch.Tensor) -> torch.Tensor:
    """Log-softmax of logits [R, V] of any dtype, in float32."""
    # Converted before: inside log_softmax it takes six times as long on a CPU.
    return torch.log_softmax(values.float(), -1)


def in_rows(count: int) -> Iterator[slice]:
    """Slices of rows for which logits are made together."""
    return _slices(count, _ROWS)


def in_blocks(values: torch.Tensor) -> Iterator[slice]:
    """Slices of rows of logits [R, V] that are worked on together.

    What is done with log-probabilities reads and writes them a dozen times, which is several
    times as fast where they stay in a core's cache; the products that make them take longer.
    """
    rows, width = values.shape
    step = max(1, _VALUES // width) if values.device.type == "cpu" else rows
    return _slices(rows, step)


def _slices(count: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def run_documents(
    model: LanguageModel,
    documents: Sequence[torch.Tensor],
    on_done: Callable[[], None] | None = None,
) -> list[torch.Tensor]:
    """Hidden states of every document (int64 [T] each), on all cores."""
    done = []
    for hidden in in_parallel(lambda t: hidden_states(model, t), documents, device=model.device):
        done.append(hidden)
        if on_done is not None:
            on_done()
    return done


def trial_tokens(model: LanguageModel, first: int = 1) -> torch.Tensor:
    """A few tokens that models are tried on when they are loaded, from ``first`` on, int64 [8]."""
    embedding: Any = model.model.get_input_embeddings()
    rows: int = embedding.weight.shape[0]
    return torch.arange(first, first + 8) % rows


def trial_logits(model: LanguageModel, tokens: torch.Tensor) -> torch.Tensor:
    """Of int64 tokens [T] as the whole model gives them, with a cache, float32 [T, V].

    Raises:
        SparsityError: the model does not run that way.
    """
    try:
        with torch.inference_mode():
            output: Any = model.model(input_ids=tokens[None].to(model.device))
    except SparsityError:
        raise
    except Exception as error:
        raise SparsityError(
            f"--sparsity-model {model.source}: {type(model.model).__name__} does not run with the "
            f"cache that it makes itself ({type(error).__name__}: "
            f"{str(error).partition(chr(10))[0]}); pass another model, or take another version of "
            "transformers"
        ) from error
    found: torch.Tensor = output.logits[0].float()
    return found


def check_head(model: LanguageModel) -> None:
    """Prove on a few tokens that decoder and head, run apart, are the model.

    Raises:
        SparsityError: the model does not run, gives NaN or infinity, or does more between
            decoder and logits than is known here.
    """
    tokens = trial_tokens(model)
    whole = trial_logits(model, tokens)
    with torch.inference_mode():
        apart = logits(model, hidden_states(model, tokens)).float()
    if not bool(torch.isfinite(whole).all()):
        raise SparsityError(
            f"--sparsity-model {model.source}: its logits are not finite (NaN or infinity); "
            "its weights are broken, or need another --sparsity-dtype"
        )
    if not _alike(whole, apart):
        with torch.inference_mode():
            alone = model.model(input_ids=tokens[None].to(model.device), use_cache=False).logits[0]
        if _alike(alone.float(), apart):  # Doge and Gemma 3n in transformers 4
            raise SparsityError(
                f"model {model.name}: {type(model.model).__name__} gives other logits without a "
                "cache than with one, in this version of transformers; take a newer one"
            )
        raise SparsityError(
            f"model {model.name}: the logits of {type(model.model).__name__} are not a plain "
            "projection of its last hidden states; add its rule to "
            "pytest_sparsity/models/forward.py"
        )


def _alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-2, atol=1e-2 * float(one.abs().max()))
