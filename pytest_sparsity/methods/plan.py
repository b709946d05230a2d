"""What a method decides, in a form that can be attached to a model, stored and compared."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch

from pytest_sparsity.kernels.torch.sparse_linear import sparsify_activations
from pytest_sparsity.methods.prefill import FIRST_TOKEN_DENSE, PrefillPolicy


class Selector(Protocol):
    """Chooses which activations of one site are kept.

    Selectors are compared with ``==``: sites that share their input and have equal
    selectors are sparsified once.
    """

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return S(x), a new contiguous tensor: ``x`` [..., K], dropped activations zero."""


@dataclass(frozen=True)
class Threshold:
    """Keep ``x_i`` where ``|x_i| > value``, strictly (TEAL, arXiv 2408.14690, section 4).

    Raises:
        ValueError: ``value`` is negative or not finite.
    """

    value: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and self.value >= 0):
            raise ValueError(f"a threshold must be finite and >= 0, not {self.value!r}")

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return S(x), [..., K]."""
        return sparsify_activations(x, self.value).contiguous()  # hardshrink keeps strides


#: What a :class:`NeuronSelector` may decide by: the neurons h themselves, which ``down`` reads;
#: act(W_gate x), which is there before ``up`` is computed; x, what the MLP reads; or the residual
#: stream v, of which x is the normalised form.
HIDDEN, GATE, INPUT, RESIDUAL = "hidden", "gate", "input", "residual"


class NeuronSelector(Protocol):
    """Chooses which neurons of one layer's MLP, down(act(gate x) * up x), are kept.

    A neuron is row j of gate and up and column j of down.  One that is dropped has h_j = 0 in
    the input of down, whatever gate and up give.

    It may have an attribute ``weights``: how many weights of its own it reads to decide about a
    token, which is taken off what its plan saves, see :attr:`Plan.deciding_weights`.

    Attributes:
        reads: ``HIDDEN``, ``GATE``, ``INPUT`` or ``RESIDUAL``: what it decides by.
        skips: the kinds of sites whose weights a dropped neuron saves.
    """

    @property
    def reads(self) -> str:
        """What it decides by."""

    @property
    def skips(self) -> tuple[str, ...]:
        """The kinds of sites whose weights a dropped neuron saves."""

    def keeps(self, read: torch.Tensor) -> torch.Tensor:
        """Which neurons are kept, boolean [..., I], from what it reads, [..., K]."""


@dataclass(frozen=True)
class Plan:
    """How one model is sparsified.

    Attributes:
        method: name of the method that made it.
        level: target fraction of zeroed activations, in [0, 1].
        selectors: site name to the selector of its input; other sites stay dense.
        prefill: which leading positions stay dense.
        bias: site name to a constant output, shape [N], added by that site's layer (the
            folded W a of spontaneous neurons, arXiv 2512.12744); empty for none.
        neurons: name of a ``down`` site to the selector of its layer's neurons; such a site
            has no other selector.
        targets: sparse site to the fraction that its input is to lose, where it is not
            ``level``.
        exact: whether every token drops exactly its target, and not only the average one.
        variant: tells plans of one method and level apart where the method has parameters, or
            is not one of this package's.
        cost: what making it took besides the calibration that methods share: ``tokens`` that
            went through the model and ``seconds``.
    """

    method: str
    level: float
    selectors: Mapping[str, Selector]
    prefill: PrefillPolicy = FIRST_TOKEN_DENSE
    bias: Mapping[str, torch.Tensor] = field(default_factory=dict)
    neurons: Mapping[str, NeuronSelector] = field(default_factory=dict)
    targets: Mapping[str, float] = field(default_factory=dict)
    exact: bool = False
    variant: str = ""
    cost: Mapping[str, float] = field(default_factory=dict)

    @property
    def sparse_sites(self) -> tuple[str, ...]:
        """The sites whose input loses something."""
        return (*self.selectors, *self.neurons)

    @property
    def skipped_sites(self) -> tuple[str, ...]:
        """The sites of whose weights some are skipped."""
        return tuple(saved for site in self.sparse_sites for saved in self.saved_by(site))

    def saved_by(self, site: str) -> tuple[str, ...]:
        """The sites whose weights are skipped where the input of ``site`` loses something."""
        if site not in self.neurons:
            return (site,)
        mlp = site.rpartition(".")[0]
        return tuple(f"{mlp}.{kind}" for kind in self.neurons[site].skips)

    @property
    def deciding_weights(self) -> int:
        """How many weights the selectors read for every token, to decide what is skipped."""
        return sum(int(getattr(selector, "weights", 0)) for selector in self.neurons.values())

    def target(self, site: str) -> float:
        """Fraction that the input of a sparse site is to lose."""
        return self.targets.get(site, self.level)

    @property
    def plateau(self) -> tuple[str, ...]:
        """Sites whose target is below the rate of their natural zeros.

        Their threshold is 0: nothing but exact zeros is dropped, so that all targets up to the
        natural rate, more than half of the neurons after ReLU, are one plateau.
        """
        return tuple(
            site
            for site, selector in (*self.selectors.items(), *self.neurons.items())
            if self.target(site) > 0 and getattr(selector, "value", None) == 0
        )
