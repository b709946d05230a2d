"""Whether a dense model's accuracy on a task can show that a sparse model lost any."""

from __future__ import annotations

from scipy import stats

#: A model is tried on some ten tasks: at 5 % each it would pass one of them by luck, and a share
#: of what is hardly beyond chance has no interval.
_SIGNIFICANCE = 0.005
#: Fewest items that must change, all for the worse, before McNemar's exact two-sided test says
#: anything at 5 %: 2 * 0.5 ** 6 < 0.05 < 2 * 0.5 ** 5.
_FEWEST = 6


def above_chance(right: int, n: int, chance: float) -> float:
    """One-sided p-value of the exact binomial test: is the model better than guessing?

    With a different number of choices per item, ``chance`` is their mean; the number of lucky
    guesses then spreads less than the binomial's (Hoeffding 1956, "On the distribution of the
    number of successes in independent trials", Annals of Mathematical Statistics 27:713-721),
    so the test errs on the side of refusing.

    Raises:
        ValueError: impossible counts, or a chance outside [0, 1].
    """
    return float(stats.binomtest(right, n, chance, alternative="greater").pvalue)


def refusal(right: int, n: int, chance: float) -> str:
    """Why the task is no evidence for or against a sparse model; empty if it is.

    A model at chance has nothing to lose.  Neither has one whose right answers beyond chance
    are so few that losing all of them would not be significant.
    """
    p_value = above_chance(right, n, chance)
    found = f"dense is right on {right} of {n}, chance is {chance:.3g}"
    if p_value >= _SIGNIFICANCE:
        return f"{found} (exact binomial p = {p_value:.2g})"
    if (beyond := right - n * chance) < _FEWEST:
        return (
            f"{found}, and the {beyond:.3g} right answers beyond chance are fewer than the "
            f"{_FEWEST} whose loss could be shown"
        )
    return ""
