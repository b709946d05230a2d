"""docs/findings.md and docs/question.md: what runs of the claims suite found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_sparsity.claims.catalog import CLAIMS
from pytest_sparsity.claims.claim import Claim
from pytest_sparsity.claims.finding import ClaimVerdict
from pytest_sparsity.claims.page.origin import cost_section, origin_section
from pytest_sparsity.claims.page.parts import WORDS, effects, outcome, statement, table
from pytest_sparsity.claims.page.question import figures_of, gist, question_section
from pytest_sparsity.claims.page.runs import ClaimsRun
from pytest_sparsity.claims.page.seeds import (
    agreement,
    seeds_gist,
    seeds_of_one,
    seeds_section,
)
from pytest_sparsity.claims.page.trial_tables import trials_section
from pytest_sparsity.claims.page.trials import TriedRecipe
from pytest_sparsity.claims.question import QUESTION
from pytest_sparsity.reporting.columns import escape

_CLAIMS = """\
# Twelve claims about spontaneous neurons and activation sparsity

About spontaneous neurons (SPON, arXiv 2512.12744), tested on small models. Each claim has a
definition and a rule that were fixed before anything was measured, and a verdict from the whole
interval: supported, refuted, inconclusive, or cannot be tested here. A refuted claim is a result,
about these models and this implementation; it says nothing of other sizes. What activation
sparsity does to reasoning is on [a page of its own](question.md).

Written by `pytest-sparsity findings`; it is made again from the findings of a run, and not \
edited."""

_QUESTION = """\
# What activation sparsity does to reasoning

The question this project began with: what happens to reasoning when a model skips activations, or
keeps its cold neurons only. It has three parts, each with a definition and a rule that were fixed
before anything was measured, and an answer from the whole interval: yes, no, the data do not
decide, or cannot be tested here. [powerinfer.md](powerinfer.md) has what PowerInfer's and Deja Vu's
rules cost on text, and [findings.md](findings.md) twelve claims about spontaneous neurons.

Written by `pytest-sparsity findings`; it is made again from the findings of a run, and not \
edited."""

_LIMITS = """\
### What these models can and cannot show
- They are small, and some are stored in 4 bits: "dense" is the model as it was loaded. Small models
  tolerate less sparsity than the 7 to 70 billion parameters of the papers, so a refuted claim may
  hold there. The direction of an effect carries over more likely than its size.
- Reasoning is what a small model can do: short logic and patterns as multiple choice, sums and
  hand-overs with a chain of thought. A task on which the dense model is at chance is refused as
  evidence. GSM8K is beyond models of this size, so its chains of thought are only read: by their
  divergence from the dense model.
- Multiple choice can stay flat while text is garbage (an issue filed with TEAL found MMLU
  unchanged at 90 %). Therefore KL from dense and the steps of greedy text before it leaves dense's
  stand beside every accuracy.
- PowerInfer prunes neither hot nor cold neurons: hot ones are computed on the GPU, cold ones on the
  CPU, and only neurons whose predicted score is below one threshold are skipped, token by token.
  That is `powerinfer`. `hot_only` and `cold_only`, which prune for good, are ablations of ours, and
  `deja_vu` is another rule: a fixed number of neurons per layer and token.
- Skipping inactive neurons is lossless with ReLU only, and only up to the share that is naturally
  0. The other models have no neuron that is exactly inactive.
- The level of `teal` is the share of the inputs of every layer; that of the neuron methods is the
  share of the neurons in feed-forward blocks, which hold part of the weights only. Damage is
  therefore set against the share of weights that was really skipped.
- At one level, a threshold skips a few per cent of the weights less with spontaneous neurons than
  without, since they give back some of what activations lost in size. That is a part of what they
  win back; claim 5 compares the two at equal damage.
- Losses of a few points on some hundred items are often inconclusive; that is not "no loss"."""


@dataclass(frozen=True)
class Page:
    """A page and its figures.

    Attributes:
        markdown: the text.
        figures: content of each file, by its name in the folder of figures.
    """

    markdown: str
    figures: Mapping[str, bytes]


def claims_page(runs: Sequence[ClaimsRun], trials: Sequence[TriedRecipe] = ()) -> Page:
    """The page about the twelve claims; it has no figures.

    Args:
        runs: at least one.
        trials: of recipes for spontaneous neurons.
    """
    lines = [f"- **{escape(run.label)}**: {_counted(run)}." for run in runs]
    lines += [
        f"- **{escape(group.label)}**: verdicts: {agreement(group, CLAIMS)}."
        for group in seeds_of_one(runs)
    ]
    return _page(
        [
            _CLAIMS,
            "\n".join(["## In plain words", "", *lines]),
            _LIMITS,
            _verdicts(runs),
            "## The claims one by one",
            *(
                f"{statement(claim, f'### Claim {claim.number}')}\n\n{effects(runs, claim.number)}"
                for claim in CLAIMS
            ),
            seeds_section(runs, CLAIMS),
            trials_section(trials),
            origin_section(runs),
            cost_section(runs),
        ],
        {},
    )


def question_page(runs: Sequence[ClaimsRun], folder: str) -> Page:
    """The page about the question.

    Args:
        runs: at least one.
        folder: of the figures, as the page links to them.
    """
    return _page(
        [
            _QUESTION,
            _answers(runs),
            _LIMITS,
            question_section(runs, folder),
            seeds_section(runs, QUESTION),
            origin_section(runs),
            cost_section(runs),
        ],
        figures_of(runs),
    )


def judged(runs: Sequence[ClaimsRun], claims: Sequence[Claim]) -> list[ClaimsRun]:
    """The runs in which one of these was judged."""
    return [run for run in runs if any(claim.number in run.findings for claim in claims)]


def _page(parts: Sequence[str], figures: Mapping[str, bytes]) -> Page:
    return Page("\n\n".join(filter(None, parts)) + "\n", figures)


def _answers(runs: Sequence[ClaimsRun]) -> str:
    lines = []
    for claim in QUESTION:
        lines.append(f"- {claim.sentence}")
        lines += [
            f"  - {escape(run.label)}: **{outcome(run, claim.number, WORDS)}.**"
            f"{gist(run, claim.number)}"
            for run in runs
        ]
        lines += [
            f"  - {escape(group.label)}, together:{said}"
            for group in seeds_of_one(runs)
            if (said := seeds_gist(group, claim.number))
        ]
    return "\n".join(["## In plain words", "", *lines])


def _counted(run: ClaimsRun) -> str:
    """Which claims are supported, refuted and so on."""
    groups = {
        verdict.value: ", ".join(
            claim.number
            for claim in CLAIMS
            if claim.number in run.findings and run.findings[claim.number].outcome is verdict
        )
        for verdict in ClaimVerdict
    }
    said = [f"{verdict}: {found}" for verdict, found in groups.items() if found]
    return f"of the twelve claims {'; '.join(said) or 'none was run'}"


def _verdicts(runs: Sequence[ClaimsRun]) -> str:
    rows = [
        {
            "claim": claim.number,
            "as it was made": claim.sentence,
            **{run.label: outcome(run, claim.number) for run in runs},
        }
        for claim in CLAIMS
    ]
    return f"## Verdicts\n\n{table(rows)}"
