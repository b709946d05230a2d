"""When a neuron of a feed-forward block is active on a token, and how often that is.

A neuron j is row j of gate and up together with column j of down: it adds h_j d_j to the
block's output, where h is the input of down and d_j the column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy
import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.progress import Progress, silent
from pytest_sparsity.methods.calibrator import Calibrator
from pytest_sparsity.methods.prefill import PrefillPolicy
from pytest_sparsity.methods.statistics import (
    Cost,
    Counter,
    Statistic,
    Summed,
    collect,
    register,
)
from pytest_sparsity.methods.topk_mask import kept
from pytest_sparsity.methods.wina import column_norms
from pytest_sparsity.models import LanguageModel, Site
from pytest_sparsity.models.weights import read_weight

#: Activation functions that give exact zeros, by their names in transformers' configurations.
EXACT_ZEROS = frozenset({"relu", "relu2", "relu6", "relu_squared", "fatrelu"})

#: Share of a token's energy that its inactive neurons may hold where nothing is exactly zero.
#: 0.04 is the square of 0.2, the tail truncation error (CETT) at which models that are not
#: sparse by nature are compared in arXiv 2402.03804.  The error is the root of the energy
#: where contributions are orthogonal; :func:`truncation_error` measures it.
TAIL = 0.04


@dataclass(frozen=True)
class ActivationCounts:
    """How often every neuron was active on a text.

    Attributes:
        counts: layer to int64 [I] on the CPU, in natural layer order.
        tokens: positions counted, the same for all layers.
        truncation_error: per layer, the mean of :func:`truncation_error` if every token left
            its inactive neurons out; 0 where these are exact zeros.
        cost: of the pass.
    """

    counts: Mapping[int, torch.Tensor]
    tokens: int
    truncation_error: tuple[float, ...]
    cost: Cost

    @property
    def whole(self) -> torch.Tensor:
        """The counts of all layers one after the other, int64 [layers * I]."""
        return torch.cat(list(self.counts.values()))


def active(h: torch.Tensor, norms: torch.Tensor, tail: float) -> torch.Tensor:
    """Which neurons are active on each token.

    They are the largest that hold a share ``1 - tail`` of the token's energy, the sum of
    (|h_j| ||d_j||)^2: as few as can be, but equal ones together.  With ``tail`` 0 these are
    exactly the neurons with h_j != 0, which is PowerInfer's definition and the right one after
    ReLU.  Gated SiLU and GeGLU have no zeros; there a neuron is inactive if its token can do
    without it, and all smaller ones, at a bounded error.  The definition looks at one token,
    so it needs no threshold from a calibration, and it has no scale, so it means the same in
    every layer.

    Args:
        h: inputs of down, [..., I].
        norms: Euclidean norms of down's columns, float32 [I].
        tail: in [0, 1).

    Returns:
        Boolean [..., I].

    Raises:
        ValueError: ``tail`` is not in [0, 1).
    """
    if not 0 <= tail < 1:
        raise ValueError(f"the tail must be in [0, 1), not {tail!r}")
    if tail == 0:
        return h != 0
    energy = contribution(h, norms).square()
    # numpy's sort takes a hundredth of torch's time.
    ordered = torch.from_numpy(numpy.sort(energy.cpu().numpy(), axis=-1)).to(h.device)
    reached = ordered.cumsum(-1)
    inactive = (reached <= tail * reached[..., -1:]).sum(-1, keepdim=True)
    least = ordered.gather(-1, inactive.clamp(max=h.shape[-1] - 1))
    return (energy >= least) & (h != 0)


def contribution(h: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
    """|h_j| ||d_j||: how much each neuron adds to the output, float32 [..., I]."""
    return h.abs().float() * norms


def truncation_error(h: torch.Tensor, kept: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """What leaving neurons out costs each token: ||down (h - kept)|| / ||down h||.

    The cumulative error of tail truncation (CETT), arXiv 2402.03804.

    Args:
        h: inputs of down, [rows, I].
        kept: the same, neurons that are left out zero.
        weight: of down, [N, I].

    Returns:
        float32 [rows]; 0 where the whole output is 0.
    """
    lost = ((h - kept) @ weight.T).float().norm(dim=-1)
    whole = (h @ weight.T).float().norm(dim=-1)
    return torch.where(whole > 0, lost / whole, 0.0)


def tail_of(model: LanguageModel) -> float:
    """What :func:`active` takes for a model: 0 if its activation function gives exact zeros."""
    config = model.model.config.get_text_config()
    names = ("hidden_activation", "hidden_act", "activation_function")
    found = next((value for n in names if (value := getattr(config, n, None)) is not None), None)
    return 0.0 if found in EXACT_ZEROS else TAIL


def down_sites(model: LanguageModel) -> dict[str, Site]:
    """The sites whose inputs are the model's neurons, by name, in natural layer order.

    Raises:
        SparsityError: the model has none.
    """
    several = [s.name for s in model.sites if not s.even or (s.kind == "down" and s.group)]
    if several:
        raise SparsityError(
            f"model {model.name} has experts, or several MLPs in a layer, or layers in several "
            f"places ({several[0]}), and neurons are skipped where a layer has one MLP of its own; "
            "leave the methods of neurons out of --sparsity-methods for it"
        )
    found = {site.name: site for site in model.sites if site.kind == "down"}
    if not found:
        raise SparsityError(
            f"model {model.name} has no site of the kind 'down', so it has no neurons to skip; "
            "leave the methods of neurons out of --sparsity-methods for it"
        )
    return found


def count_neurons(
    model: LanguageModel,
    tokens: Sequence[torch.Tensor],
    prefill: PrefillPolicy,
    progress: Progress = silent,
) -> ActivationCounts:
    """Count on a text other than the calibration's, in one dense pass.

    Args:
        model: dense, nothing attached.
        tokens: documents, int64 [T] each.
        prefill: positions that it keeps dense do not count.
        progress: advances by one per document.

    Raises:
        SparsityError: the policy keeps every token dense, or the model has no neurons.
    """
    sites = down_sites(model)
    sums = collect(model, tokens, prefill, (NEURON_ACTIVATIONS, TRUNCATION_ERRORS), progress)
    return _counted(sites, sums)


def calibrated_counts(calibrator: Calibrator) -> ActivationCounts:
    """The same on the calibration text, from the pass that all methods share.

    Raises:
        SparsityError: the model has no neurons.
    """
    sites = down_sites(calibrator.model)
    calibrator.prepare(wants=NEURON_STATISTICS)
    return _counted(sites, {name: calibrator.statistic(name) for name in NEURON_STATISTICS})


def _counted(sites: Mapping[str, Site], sums: Mapping[str, Summed]) -> ActivationCounts:
    often, errors = (sums[name] for name in NEURON_STATISTICS)
    return ActivationCounts(
        counts={site.layer: often.totals[name] for name, site in sites.items()},
        tokens=next(iter(often.rows.values())),
        truncation_error=tuple(float(errors.totals[n]) / errors.rows[n] for n in sites),
        cost=often.cost,
    )


def _activations(model: LanguageModel) -> Counter:
    decide = _decider(model)
    return lambda place, h: decide(place, h).sum(0)


def _truncation_errors(model: LanguageModel) -> Counter:
    if tail_of(model) == 0:
        return lambda place, h: torch.zeros((), dtype=torch.float64)
    decide = _decider(model)
    weights = {name: read_weight(site, model) for name, site in down_sites(model).items()}

    def count(place: str, h: torch.Tensor) -> torch.Tensor:
        errors = truncation_error(h, kept(h, decide(place, h)), weights[place])
        return errors.sum(dtype=torch.float64)

    return count


def _decider(model: LanguageModel) -> Counter:
    """Place and h [R, I] to the active neurons, boolean [R, I]."""
    tail = tail_of(model)
    norms = {name: column_norms(site, model) for name, site in down_sites(model).items()}
    return lambda place, h: active(h, norms[place], tail)


#: int64 [I] per layer: on how many tokens each neuron is active.
NEURON_ACTIVATIONS = register(Statistic("neuron_activations", ("down",), _activations))

#: float64 [] per layer: the sum over tokens of the truncation error.
TRUNCATION_ERRORS = register(Statistic("neuron_truncation_errors", ("down",), _truncation_errors))

NEURON_STATISTICS = (NEURON_ACTIVATIONS.name, TRUNCATION_ERRORS.name)
