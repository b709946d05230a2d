"""Prints how often intervals hold the truth, by simulation: docs/verdicts.md has the tables.

    python ci/interval_coverage.py [--runs 4000] [--units 4,8,...] [--only TEXT] [--before REVISION]
        [part ...]

Parts are ``mean``, ``weighted``, ``ratio``, ``bounded``, ``looks`` and ``shares``; all if none is
named.  Shares of right and wrong are counted exactly instead of drawn.  With ``--before`` the
intervals of a revision that still had ``pytest_sparsity/core/stats.py`` stand beside, on a quarter
of the runs, as they take longer.
"""

from __future__ import annotations

import argparse
import itertools
import math
import subprocess
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from pytest_sparsity.core.statistics import (
    Bounds,
    Interval,
    Vector,
    bounded,
    paired_mean,
    paired_ratio,
)

UNITS = (4, 5, 6, 8, 12, 20, 32, 64, 100, 200, 400)
#: As many seeds of draws: new data each time, but draws are kept.
_SEEDS = 8
_PARTS = ("mean", "weighted", "ratio", "bounded", "looks", "shares")
_TAIL = 0.025


@dataclass(frozen=True)
class Kind:
    """A kind of units.

    Attributes:
        name: what the table calls it.
        truth: their mean.
        draw: n of them.
        bounds: what is known of them.
    """

    name: str
    truth: float
    draw: Callable[[np.random.Generator, int], Vector]
    bounds: Bounds | None = None


def _share(p: float) -> Callable[[np.random.Generator, int], Vector]:
    return lambda rng, n: (rng.random(n) < p).astype(float)


def _mixed(
    equal: float, rest: Callable[[np.random.Generator, int], Vector], at: float = 0.0
) -> Any:
    return lambda rng, n: np.where(rng.random(n) < equal, at, rest(rng, n))


#: Of these nothing is known but the units.
OPEN = (
    Kind("normal", 0.0, lambda rng, n: rng.normal(size=n)),
    Kind("lognormal, sigma 1", math.exp(0.5), lambda rng, n: rng.lognormal(0, 1, n)),
    Kind("Student's t, 3 degrees", 0.0, lambda rng, n: rng.standard_t(3, n)),
    Kind("0/1 at 1 %", 0.01, _share(0.01)),
    Kind("0/1 at 10 %", 0.10, _share(0.10)),
    Kind("0/1 at 50 %", 0.50, _share(0.50)),
    Kind("80 % zeros, normal", 0.0, _mixed(0.8, lambda rng, n: rng.normal(size=n))),
    Kind("80 % zeros, normal about 1", 0.2, _mixed(0.8, lambda rng, n: rng.normal(1, 0.5, n))),
    Kind(
        "50 % zeros, lognormal",
        0.5 * math.exp(0.5),
        _mixed(0.5, lambda rng, n: rng.lognormal(0, 1, n)),
    ),
)
#: Of these it is known what they can be.
CLOSED = (
    Kind("0/1 at 1 %", 0.01, _share(0.01), (0, 1)),
    Kind("0/1 at 10 %", 0.10, _share(0.10), (0, 1)),
    Kind("0/1 at 50 %", 0.50, _share(0.50), (0, 1)),
    Kind("agreement, beta(9, 1)", 0.9, lambda rng, n: rng.beta(9, 1, n), (0, 1)),
    Kind("agreement, beta(90, 10)", 0.9, lambda rng, n: rng.beta(90, 10, n), (0, 1)),
    Kind(
        "60 % on the path, uniform off it", 0.2, _mixed(0.6, lambda rng, n: rng.random(n)), (0, 1)
    ),
    Kind("90 % on the path, all off it", 0.1, _share(0.1), (0, 1)),
    Kind(
        "changes of paths",
        0.0,
        lambda rng, n: np.where(rng.random(n) < 0.7, 0, rng.uniform(-1, 1, n)),
        (-1, 1),
    ),
    Kind(
        "divergence, lognormal", math.exp(0.5), lambda rng, n: rng.lognormal(0, 1, n), (0, math.inf)
    ),
)


@dataclass(frozen=True)
class Count:
    """What came of some runs.

    Attributes:
        low: share in which the lower limit was above the truth.
        high: share in which the upper limit was below it.
        infinite: share without one of the limits.
        width: median width, where it is finite; NaN where it never is.
    """

    low: float
    high: float
    infinite: float
    width: float

    @property
    def held(self) -> float:
        """Share in which the interval held the truth."""
        return 1 - self.low - self.high


def count(made: Sequence[tuple[Interval, ...]], truth: float) -> Count:
    """Of runs of one or more looks, all of whose intervals have to hold the truth."""
    low = np.array([any(i.low > truth for i in looks) for looks in made])
    high = np.array(
        [
            any(i.high < truth for i in looks) and not below
            for looks, below in zip(made, low, strict=True)
        ]
    )
    widths = np.array([looks[-1].high - looks[-1].low for looks in made])
    finite = widths[np.isfinite(widths)]
    width = float(np.median(finite)) if finite.size else math.nan
    return Count(low.mean(), high.mean(), 1 - finite.size / widths.size, width)


Make = Callable[[Vector, Vector, Kind, int, int], Interval]


def _weights(rng: np.random.Generator, n: int, part: str) -> Vector:
    if part == "mean":
        return np.ones(n)
    return rng.integers(50, 500, n).astype(float) if part != "ratio" else rng.gamma(4.0, 0.25, n)


def simulate(
    kind: Kind, n: int, *, part: str, runs: int, make: Make, looks: int = 1, seed: int = 0
) -> Count:
    """The coverage of ``make`` on n, 2n, ... units of a kind, up to ``looks`` times n."""
    rng = np.random.default_rng([seed, n])
    made = []
    for run in range(runs):
        values, weights = kind.draw(rng, n * looks), _weights(rng, n * looks, part)
        made.append(
            tuple(
                make(values[:size] * weights[:size], weights[:size], kind, run % _SEEDS, looks)
                for size in range(n, n * looks + 1, n)
            )
        )
    return count(made, kind.truth)


def now(part: str, resamples: int = 2000) -> Make:
    """The interval of today, with fewer draws than by default: they cost, and change little."""

    def make(above: Vector, below: Vector, kind: Kind, seed: int, looks: int) -> Interval:
        how: dict[str, Any] = {"seed": seed, "looks": looks, "resamples": resamples}
        if part == "ratio":
            return paired_ratio(above, below, **how)
        weights = None if part == "mean" else below
        return paired_mean(above, weights, bounds=kind.bounds, **how)

    return make


def before(part: str, revision: str) -> Make:
    """The interval of a revision that had them in one module, with 2,000 resamples."""
    root = Path(__file__).parents[1]
    source = subprocess.run(
        ["git", "show", f"{revision}:pytest_sparsity/core/stats.py"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    old: Any = types.ModuleType("stats_before")
    sys.modules[old.__name__] = old  # where dataclasses look for it
    exec(compile(source, "stats_before", "exec"), old.__dict__)

    def make(above: Vector, below: Vector, kind: Kind, seed: int, looks: int) -> Interval:
        if part == "ratio":
            found: Interval = old.paired_ratio(above, below, seed=seed)
        else:
            found = old.paired_mean(above, None if part == "mean" else below, seed=seed)
        return found

    return make


def _tables(arguments: argparse.Namespace) -> Iterator[str]:
    for part in arguments.parts or _PARTS:
        if part == "shares":
            yield from _shares(arguments.units)
            continue
        looks = 3 if part == "looks" else 1
        style = "mean" if part in ("looks", "bounded") else part
        if part == "bounded":
            style = "weighted"
        kinds: tuple[Kind, ...] = CLOSED if part == "bounded" else OPEN
        if part == "looks":
            kinds += CLOSED
        yield f"\n### {part}\n"
        yield "| units | n | held | truth below | truth above | infinite | held before | width |"
        yield "|---|---:|---:|---:|---:|---:|---:|---:|"
        old = before(style, arguments.before) if arguments.before else None
        asked = [kind for kind in kinds if arguments.only in kind.name]
        for kind, n in itertools.product(asked, arguments.units):
            found = simulate(kind, n, part=style, runs=arguments.runs, looks=looks, make=now(style))
            cells = [f"{100 * x:.1f}" for x in (found.held, found.low, found.high)]
            cells.append(f"{100 * found.infinite:.0f}")
            if old is not None:
                fewer = arguments.runs // 4
                known = simulate(kind, n, part=style, runs=fewer, looks=looks, make=old)
                cells += [f"{100 * known.held:.1f}", _ratio(found.width, known.width)]
            else:
                cells += ["", f"{found.width:.3g}"]
            yield f"| {kind.name} | {n} | {' | '.join(cells)} |"


def _ratio(width: float, before: float) -> str:
    """Width over that of before; empty where there is none, or was none."""
    return "" if math.isnan(width) or not before else f"{width / before:.2f} times"


def exact_misses(n: int, gain: float, loss: float, limits: Any) -> tuple[float, float]:
    """Chance that the truth, gain - loss, is below the lower and above the upper limit."""
    gains, losses = limits[0], limits[1]
    equal = n - gains - losses
    log = special.gammaln(n + 1) - sum(special.gammaln(k + 1) for k in (gains, losses, equal))
    log = log + special.xlogy(gains, gain) + special.xlogy(losses, loss)
    chance = np.exp(log + special.xlogy(equal, max(1 - gain - loss, 0)))
    truth = gain - loss
    return float(chance[limits[2] > truth + 1e-9].sum()), float(
        chance[limits[3] < truth - 1e-9].sum()
    )


def all_limits(n: int, level: float = 0.95) -> tuple[Vector, Vector, Vector, Vector]:
    """Gains, losses and the limits of every table of n pairs."""
    pairs = [(g, k) for g in range(n + 1) for k in range(n + 1 - g)]
    found = [bounded.difference_limits(g, k, n, level) for g, k in pairs]
    table = np.array([(*pair, *ends) for pair, ends in zip(pairs, found, strict=True)], dtype=float)
    return table[:, 0], table[:, 1], table[:, 2], table[:, 3]


def _shares(units: Sequence[int]) -> Iterator[str]:
    yield "\n### shares\n"
    yield "| n | worst lower limit | worst upper limit | of pairs: lower | upper |"
    yield "|---:|---:|---:|---:|---:|"
    grid = [0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.35, 0.5]
    for n in units:
        if n > 100:
            continue
        one = [bounded.share_limits(k, n, 0.95) for k in range(n + 1)]
        share = (
            np.arange(n + 1.0),
            np.zeros(n + 1),
            *(np.array(x) for x in zip(*one, strict=True)),
        )
        single = [exact_misses(n, p, 0.0, share) for p in (*grid, *(1 - p for p in grid))]
        limits = all_limits(n)
        differ = [
            (d * w, d * (1 - w)) for d in (*grid, 0.8, 1.0) for w in (0, 0.1, 0.3, 0.5, 0.7, 0.9, 1)
        ]
        double = [exact_misses(n, g, k, limits) for g, k in differ]
        worst = [max(column) for column in (*zip(*single, strict=True), *zip(*double, strict=True))]
        yield f"| {n} | " + " | ".join(f"{100 * x:.2f}" for x in worst) + " |"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=[*_PARTS, []], help="tables to print")
    parser.add_argument("--runs", type=int, default=4000, help="simulated data sets per line")
    parser.add_argument(
        "--units", type=lambda text: [int(n) for n in text.split(",")], default=list(UNITS)
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="kinds with it in their name")
    parser.add_argument("--before", metavar="REVISION", help="revision to compare with")
    for line in _tables(parser.parse_args(argv)):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
