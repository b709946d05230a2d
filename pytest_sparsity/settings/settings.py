"""Every --sparsity-* option and ini key, read and checked, in one frozen :class:`Settings`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.settings import parsing
from pytest_sparsity.settings.options import OPTIONS, Data

QUICK_TASKS = (
    "basic_logical_reasoning",
    "basic_pattern",
    "basic_common_knowledge",
    "arc_easy",
    "lambada",
    "sva",
)


@dataclass(frozen=True)
class Sizes:
    """How much data a profile measures, and how much it may draw before a verdict stands.

    Attributes:
        documents: documents per corpus at first.
        items: items per task at first.
        draws: how often the first amount may be drawn in all; a verdict that is still
            inconclusive after the last draw stands.
        window: tokens per document.
        prompts: prompts continued greedily.
        new_tokens: tokens per continuation.
        calibration: calibration documents.
        examples: cases that hypothesis draws per kernel and check.
    """

    documents: int
    items: int
    draws: int
    window: int = 256
    prompts: int = 8
    new_tokens: int = 32
    calibration: int = 32
    examples: int = 100


@dataclass(frozen=True)
class Profile:
    """A named amount of work: the default grid and the sizes.

    Attributes:
        levels: of the default grid.
        tasks: of the default grid.
        sizes: how much data.
        claims: the same where claims alone are judged, if it is another amount: they need
            several times as many configurations, and never draw more.
    """

    levels: tuple[float, ...]
    tasks: tuple[str, ...]
    sizes: Sizes
    claims: Sizes | None = None

    @property
    def examples(self) -> int:
        """Cases that hypothesis draws per kernel and check."""
        return self.sizes.examples


PROFILES: Mapping[str, Profile] = {
    "smoke": Profile(
        (0.5,), ("basic_common_knowledge", "sva"), Sizes(12, 24, 2, prompts=4, examples=10)
    ),
    "quick": Profile(
        (0.25, 0.4, 0.5), QUICK_TASKS, Sizes(32, 100, 3), claims=Sizes(24, 100, draws=1)
    ),
    "full": Profile(
        (0.25, 0.4, 0.5, 0.6), QUICK_TASKS, Sizes(96, 300, 1, prompts=32, examples=1000)
    ),
}


@dataclass(frozen=True)
class Settings:
    """What the user asked for; every part of the package reads its options from here."""

    sweep: bool
    plan: float | None
    suites: tuple[str, ...]
    profile: str
    models: tuple[str, ...]
    allow_unused: bool
    trust_remote_code: bool
    weights: tuple[str, ...]
    methods: tuple[str, ...]
    levels: tuple[float, ...]
    predictors: str | None
    spon: tuple[str, ...]
    tasks: tuple[str, ...]
    corpora: tuple[str, ...]
    documents: int | None
    items: int | None
    calibration: str
    prefill: str
    dtype: str
    target: str
    data: Data
    train: str
    spon_sites: tuple[str, ...]
    spon_layers: tuple[int, int] | None
    budgets: Path | None
    gate: str
    baseline: Path | None
    against: str | None
    across: str | None
    tolerance: float | None
    update: bool
    update_new_only: bool
    history: Path | None
    strict: bool
    run_error: float
    report: Path
    cache: Path | None
    resume: bool
    kernels: tuple[str, ...] | None
    rerun: bool
    seed: int
    examples: int

    @property
    def sizes(self) -> Sizes:
        """The amounts of data: the chosen profile's (claims alone may have their own), or given."""
        profile = PROFILES[self.profile]
        sizes = (profile.claims if self.suites == ("claims",) else None) or profile.sizes
        return replace(
            sizes, documents=self.documents or sizes.documents, items=self.items or sizes.items
        )

    @property
    def updating(self) -> bool:
        """Whether what is measured is written to budgets or baseline, or both."""
        return self.update or self.update_new_only

    @property
    def overrides(self) -> Path | None:
        """The budgets file whose budgets are in force: not one that is about to be written."""
        kept = self.update_new_only and self.budgets is not None and self.budgets.exists()
        return self.budgets if kept or not self.updating else None


def default_settings() -> Settings:
    """The settings of a run without any option or ini key."""
    return checked({}, Path.cwd())


def checked(given: Mapping[str, Any], base: Path) -> Settings:
    """Settings of the options that were given, by name, with the defaults of the others.

    What needs heavy imports is checked by the sweep.

    Args:
        given: text, or a list of texts for an option that is repeatable, or whether a flag is set.
        base: folder that relative paths start from.

    Raises:
        SparsityError: an option has a value it cannot have.
    """
    option = next(option for option in OPTIONS if option.name == "profile")
    profile = PROFILES[option.value(given.get(option.name), base, None)]
    fields = {o.field: o.value(given.get(o.name), base, profile) for o in OPTIONS}
    settings = Settings(**fields)
    _check_gate(settings)
    return settings


def _check_gate(settings: Settings) -> None:
    gate, against, baseline = settings.gate, settings.against, settings.baseline
    chosen = {"update": settings.update, "update-new-only": settings.update_new_only}
    updating = [name for name, given in chosen.items() if given]
    if against is not None and (not against.strip() or against.startswith("-")):
        raise parsing.bad("against", against, "name a git revision, or a kernel as op/name")
    if gate != "off" and not (against or baseline):
        fix = (
            "there is nothing to compare with; name a stored run with --sparsity-baseline, or a "
            "revision or kernel with --sparsity-against"
        )
        raise parsing.bad("gate", gate, fix)
    if against and gate == "off":
        fix = "add --sparsity-gate=fail (or warn), or nothing is compared"
        raise parsing.bad("against", against, fix)
    if settings.across and not (baseline and gate != "off"):
        fix = (
            "it is about what --sparsity-gate compares with --sparsity-baseline; give both, or "
            "leave it out"
        )
        raise parsing.bad("across", settings.across, fix)
    if updating and not (settings.budgets or baseline):
        raise SparsityError(
            f"--sparsity-{updating[0]}: say where to: --sparsity-budgets FILE for budgets, "
            "--sparsity-baseline DIR for times and records, or both"
        )
    if len(updating) == 2:
        raise SparsityError("--sparsity-update and --sparsity-update-new-only: give one of them")
    if updating and against and baseline:
        raise SparsityError(
            f"--sparsity-{updating[0]}: times of a run with --sparsity-against are not stored in "
            "--sparsity-baseline; leave out one of the two"
        )
    if updating and not baseline and not (settings.sweep or settings.resume):
        raise SparsityError(
            f"--sparsity-{updating[0]}: only a sweep measures budgets for --sparsity-budgets; "
            "add --sparsity-sweep"
        )
    if settings.update and baseline and gate != "off":
        raise SparsityError(
            "--sparsity-update: it would replace what --sparsity-gate compares with; leave out "
            "one of the two, or use --sparsity-update-new-only"
        )
