"""The page's part on what was tried to train spontaneous neurons."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_sparsity.claims.catalog_recovery import demanded_share
from pytest_sparsity.claims.finding import in_unit
from pytest_sparsity.claims.page.parts import table
from pytest_sparsity.claims.page.trials import TriedRecipe
from pytest_sparsity.reporting import numbers
from pytest_sparsity.reporting.columns import escape

_TITLE = "## What was tried to train spontaneous neurons"
_TEXT = """\
Each recipe differs from the default one in what its row names. Recipes are compared by the KL
divergence from the dense model on training text that none of them was trained on, the same for
all; never by the evaluation corpora, whose figures stand beside. Shipped vectors were trained on
that text, too, so that claims have other figures of the default recipe. Training stops early where
it no longer helps sequences that it holds out; tokens are those that it read. A share of a loss
that cannot be told from 0 has no limits. Intervals are 95 %, paired over sequences or documents."""


def trials_section(trials: Sequence[TriedRecipe]) -> str:
    """One table per model and level, in the order of the trials; empty without any."""
    if not trials:
        return ""
    settings = dict.fromkeys((trial.model, trial.level) for trial in trials)
    tables = (_table([t for t in trials if (t.model, t.level) == s]) for s in settings)
    return "\n\n".join([_TITLE, _TEXT, *tables])


def trial_row(trial: TriedRecipe) -> dict[str, str]:
    """A trial as a row of a table."""
    before, after = map(numbers.nats, trial.held_out)
    return {
        "recipe": trial.name,
        "held-out KL": f"{before} to {after}",
        "of it removed": in_unit(trial.removed.interval, trial.removed.unit),
        **{
            f"recovered on {effect.label}": in_unit(effect.interval, effect.unit)
            for effect in trial.recovered
        },
        "tokens": f"{trial.tokens:,}",
    }


def _table(trials: Sequence[TriedRecipe]) -> str:
    first = trials[0]
    losses = ", ".join(
        f"{in_unit(effect.interval, effect.unit)} on {effect.label} (n = {effect.interval.n})"
        for effect in first.lost
    )
    limit = demanded_share(first.model)
    best = min(trials, key=lambda trial: trial.held_out[1])
    reached = ", ".join(trial.name for trial in trials if _reaches(trial, limit))
    rows = table([trial_row(trial) for trial in trials])
    return (
        f"### {escape(first.model)}, TEAL at {first.level:g}\n\n"
        f"TEAL alone loses {escape(losses)}. The lowest held-out divergence: "
        f"**{escape(best.name)}**. Recovered {100 * limit:g} % or more on every corpus, the "
        f"interval above 0: {escape(reached) or 'none'}.\n\n{rows}"
    )


def _reaches(trial: TriedRecipe, limit: float) -> bool:
    shares = [effect.interval for effect in trial.recovered]
    return all(share.estimate >= limit and share.low > 0 for share in shares)
