"""Claims 1 to 4 and 11: spontaneous neurons with compressed weights, and against them."""

from __future__ import annotations

from pytest_sparsity.claims import claim
from pytest_sparsity.claims.claim import Part
from pytest_sparsity.claims.losses import Losses
from pytest_sparsity.claims.perplexity_claim import HALF, PerplexityClaim, spon, teal
from pytest_sparsity.models.compression.names import LOADED
from pytest_sparsity.sweep.cell import Configuration

STABLE = 0.05  # nats: claim 1
RECOVERED = 0.10  # share of the loss by pruning: claim 4

PRECISIONS = ("float32", "int8", "int4")
WANDA = "wanda-0.5"
PRUNED = ("magnitude-0.5", WANDA, "sparsegpt-0.5")


def _weighted(model: str, weights: str = LOADED) -> Configuration:
    """The model with these weights and dense activations."""
    return Configuration(model, weights=weights)


def _pruned_with_spon(model: str) -> Configuration:
    """Pruned weights, dense activations, spontaneous neurons: no activation is dropped."""
    return spon(model, 0.0, WANDA)


def _stable(losses: Losses, model: str) -> list[Part]:
    parts = []
    loaded = {spon(model): -1.0, _weighted(model): 1.0}
    for precision in PRECISIONS:
        terms = {spon(model, weights=precision): 1.0, _weighted(model, precision): -1.0}
        label = f"loss with SPON at {HALF:g} in {precision} less that as loaded on {losses.corpus}"
        difference = losses.mean({**terms, **loaded})
        parts.append(claim.within(label, difference, "nats", -STABLE, STABLE))
    return parts


def _beats(losses: Losses, model: str) -> list[Part]:
    label = f"log-perplexity of int4 with SPON less that of float32 without, on {losses.corpus}"
    difference = losses.increase(spon(model, weights="int4"), teal(model, weights="float32"))
    return [claim.below(label, difference, "nats", 0.0)]


def _protects(losses: Losses, model: str) -> list[Part]:
    label = f"log-perplexity with SPON less that without, {WANDA}, on {losses.corpus}"
    difference = losses.increase(spon(model, weights=WANDA), teal(model, weights=WANDA))
    return [claim.below(label, difference, "nats", 0.0)]


def _recovers(losses: Losses, model: str) -> list[Part]:
    pruned, dense = _weighted(model, WANDA), _weighted(model)
    share = losses.recovered(_pruned_with_spon(model), pruned, dense)
    loss = losses.increase(pruned, dense)
    return [
        claim.at_least(
            f"share of {WANDA}'s loss recovered on {losses.corpus}", share, "share", RECOVERED
        ),
        claim.beside(f"loss of {WANDA} on {losses.corpus}", loss, "nats"),
    ]


def _beats_pruning(losses: Losses, model: str) -> list[Part]:
    return [
        claim.below(
            f"log-perplexity of TEAL {HALF:g} with SPON less that of {weights} on {losses.corpus}",
            losses.increase(spon(model), _weighted(model, weights)),
            "nats",
            0.0,
        )
        for weights in PRUNED
    ]


WEIGHTS = (
    PerplexityClaim(
        number="1",
        sentence="With SPON, perplexity is stable from float32 to int4.",
        definition=(
            f"E(p), the increase of log-perplexity by TEAL at {HALF:g} with trained spontaneous "
            "neurons over the dense model of the same precision p, both in float32, int8 (per "
            "channel) and int4 (in groups), less E of the weights as they were loaded."
        ),
        rule=(
            f"Supported if the difference is within {STABLE:g} nats either way, with its whole "
            "interval, for every precision on every corpus; refuted if it is wholly outside for "
            "one."
        ),
        configurations=lambda model: [
            made
            for weights in (LOADED, *PRECISIONS)
            for made in (_weighted(model, weights), spon(model, weights=weights))
        ],
        decide_on=_stable,
        parts=len(PRECISIONS),
    ),
    PerplexityClaim(
        number="2",
        sentence="SPON at int4 beats the sparse baseline at 32 bits.",
        definition=(
            f"Log-perplexity of TEAL at {HALF:g} with trained spontaneous neurons and int4 weights "
            "less that of TEAL alone with float32 weights, on the same documents."
        ),
        rule="Supported if the difference is below 0 on every corpus, refuted if it is not on one.",
        configurations=lambda model: [
            spon(model, weights="int4"),
            teal(model, weights="float32"),
        ],
        decide_on=_beats,
    ),
    PerplexityClaim(
        number="3",
        sentence="SPON protects pruned networks.",
        definition=(
            f"Log-perplexity of TEAL at {HALF:g} on weights pruned by Wanda to half, with trained "
            "spontaneous neurons, less that without."
        ),
        rule="Supported if the difference is below 0 on every corpus, refuted if it is not on one.",
        configurations=lambda model: [teal(model, weights=WANDA), spon(model, weights=WANDA)],
        decide_on=_protects,
    ),
    PerplexityClaim(
        number="4",
        sentence="SPON recovers what weight pruning lost.",
        definition=(
            "The share of the loss in log-perplexity by pruning half of the weights (Wanda) that "
            "spontaneous neurons recover while all activations are kept."
        ),
        rule=(
            f"Supported if the share is {RECOVERED:g} or more on every corpus, refuted if it is "
            "less on one."
        ),
        configurations=lambda model: [
            _weighted(model),
            _weighted(model, WANDA),
            _pruned_with_spon(model),
        ],
        decide_on=_recovers,
    ),
)

BEATS_PRUNING = PerplexityClaim(
    number="11",
    sentence="Activation sparsity with SPON beats weight pruning at equal sparsity.",
    definition=(
        f"Log-perplexity of TEAL at {HALF:g} with trained spontaneous neurons less that of the "
        f"dense model with half of its weights pruned: {', '.join(PRUNED)}."
    ),
    rule=(
        "Supported if the difference is below 0 for every way of pruning on every corpus, refuted "
        "if it is not for one."
    ),
    configurations=lambda model: [
        spon(model),
        *(_weighted(model, weights) for weights in PRUNED),
    ],
    decide_on=_beats_pruning,
    parts=len(PRUNED),
)
