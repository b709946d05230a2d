"""A few tokens through a model that was just loaded: whether it can be measured here."""

from __future__ import annotations

import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.methods.attach import sparsify
from pytest_sparsity.methods.plan import Plan, Threshold
from pytest_sparsity.models import LanguageModel
from pytest_sparsity.models.forward import check_head, trial_logits, trial_tokens
from pytest_sparsity.models.upstream import failures_as

#: Of a dtype's precision, what logits may move by where nothing changes but rounding: experts
#: round otherwise with other tokens beside theirs.
_EXPERTS, _OTHERS = 4.0, 0.25
_FLOAT32 = 64.0


def check_loaded(model: LanguageModel) -> None:
    """See that a model sees no later tokens, and that its parts and its hooks compute what it does.

    Raises:
        SparsityError: it does not, or its logits are not finite, or a pass of it fails.
    """
    begin = f"--sparsity-model {model.source}: {type(model.model).__name__} fails on eight tokens"
    with failures_as(begin, "try --sparsity-dtype=float32, a newer transformers or another model"):
        plain = trial_logits(model, trial_tokens(model))
        check_causal(model, plain)
        check_head(model)
        check_hooks(model, plain)


def check_causal(model: LanguageModel, plain: torch.Tensor) -> None:
    """See that the first tokens' logits stay when later tokens change.

    Args:
        model: dense.
        plain: its logits of :func:`trial_tokens`, float32 [8, V].

    Raises:
        SparsityError: they do not, as in an encoder.
    """
    tokens = trial_tokens(model)
    half = len(tokens) // 2
    # Other ones: where a model looks at all of them alike, their order hardly matters.
    changed = torch.cat([tokens[:half], trial_tokens(model, 10)[half:]])
    first, second = plain[:half], trial_logits(model, changed)[:half]
    steps = _EXPERTS if any(site.routed for site in model.sites) else _OTHERS
    steps = _FLOAT32 if model.dtype == torch.float32 else steps
    allowed = steps * torch.finfo(model.dtype).eps * first.abs().max()
    # Where logits are NaN, check_head says so.
    if bool((first - second).abs().max() > allowed):
        raise SparsityError(
            f"--sparsity-model {model.source}: the logits of {type(model.model).__name__} change "
            "with the tokens that follow, as an encoder's do; pass a decoder-only model, or one "
            "whose config.json has is_decoder true"
        )


def check_hooks(model: LanguageModel, plain: torch.Tensor) -> None:
    """See that with every site hooked, and nothing skipped, the model gives the same bits.

    Args:
        model: dense.
        plain: its logits of :func:`trial_tokens`, float32 [8, V].

    Raises:
        SparsityError: it does not.
    """
    twin = model.twin()
    with sparsify(twin, Plan("threshold", 0.0, {s.name: Threshold(0.0) for s in model.sites})):
        hooked = trial_logits(twin, trial_tokens(model))
    if not torch.equal(plain, hooked):
        off = float((plain - hooked).abs().max())
        raise SparsityError(
            f"--sparsity-model {model.source}: {type(model.model).__name__} with its sites hooked "
            f"and nothing skipped is off by up to {off:.3g} from itself, so that its damage could "
            "not be told from that of the hooks; report it with the model's configuration"
        )
