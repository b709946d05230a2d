"""Every --sparsity-* option and ini key, read into one frozen :class:`Settings`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pytest_sparsity import option_values as values
from pytest_sparsity.errors import SparsityError

SUITES = ("kernels", "accuracy", "performance")
SPON = ("off", "mean_residual", "trained")
KINDS = ("q", "k", "v", "o", "gate", "up", "down")
DTYPES = ("auto", "bfloat16", "float32", "float16")
TRAIN = ("never", "missing", "all")
DATA = ("vendored", "full")
GATE = ("off", "warn", "fail")
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
    """A named amount of work: the default grid and the sizes."""

    levels: tuple[float, ...]
    tasks: tuple[str, ...]
    sizes: Sizes


PROFILES: Mapping[str, Profile] = {
    "smoke": Profile(
        (0.5,), ("basic_common_knowledge", "sva"), Sizes(12, 24, 2, prompts=4, examples=10)
    ),
    "quick": Profile((0.25, 0.4, 0.5), QUICK_TASKS, Sizes(32, 100, 3)),
    "full": Profile(
        (0.25, 0.4, 0.5, 0.6), QUICK_TASKS, Sizes(96, 300, 1, prompts=32, examples=1000)
    ),
}


@dataclass(frozen=True)
class Settings:
    """What the user asked for; every part of the package reads its options from here."""

    sweep: bool
    suites: tuple[str, ...]
    profile: str
    models: tuple[str, ...]
    methods: tuple[str, ...]
    levels: tuple[float, ...]
    spon: tuple[str, ...]
    tasks: tuple[str, ...]
    corpora: tuple[str, ...]
    calibration: str
    prefill: str
    dtype: str
    target: str
    data: str
    train: str
    spon_sites: tuple[str, ...]
    spon_layers: tuple[int, int] | None
    thresholds: Path | None
    gate: str
    baseline: Path | None
    against: str | None
    tolerance: float | None
    update: bool
    update_new_only: bool
    history: Path | None
    strict: bool
    report: Path
    cache: Path | None
    resume: bool
    seed: int
    examples: int

    @property
    def sizes(self) -> Sizes:
        """The amounts of data of the chosen profile."""
        return PROFILES[self.profile].sizes

    @property
    def updating(self) -> bool:
        """Whether what is measured is written to thresholds or baseline, or both."""
        return self.update or self.update_new_only

    @property
    def overrides(self) -> Path | None:
        """The thresholds file whose budgets are in force: not one that is about to be written."""
        kept = self.update_new_only and self.thresholds is not None and self.thresholds.exists()
        return self.thresholds if kept or not self.updating else None


@dataclass(frozen=True)
class _Option:
    """One option: ``--sparsity-NAME`` and, if ``ini``, the ini key ``sparsity_NAME``."""

    name: str
    help: str
    default: str | None = None
    metavar: str | None = None
    repeatable: bool = False
    flag: bool = False
    ini: bool = True

    @property
    def dest(self) -> str:
        return "sparsity_" + self.name.replace("-", "_")


_OPTIONS = (
    _Option("sweep", "measure the whole grid; without paths, run the bundled suites", flag=True,
            ini=False),
    _Option("suite", f"bundled suites to run, of {', '.join(SUITES)}", "kernels,accuracy",
            "LIST"),
    _Option("profile", f"amount of work: {', '.join(PROFILES)}", "quick", "NAME"),
    _Option("model", "model to sparsify: a known name, a local folder, a GGUF file or a hub id",
            "smollm2-135m", "MODEL", repeatable=True),
    _Option("methods", "methods that choose what to skip; dense is always measured", "teal",
            "LIST"),
    _Option("levels", "target fractions of zeroed activations, from 0 to 1", None, "LIST"),
    _Option("spon", f"settings of spontaneous neurons, of {', '.join(SPON)}", ",".join(SPON),
            "LIST"),
    _Option("tasks", "tasks by name, or .jsonl files; none for no tasks", None, "LIST"),
    _Option("corpora", "evaluation corpora by name, or .txt/.jsonl files", "austen,factbook",
            "LIST"),
    _Option("calibration", "corpus for thresholds and training; A+B mixes two",
            "austen+jargon", "NAME"),
    _Option("prefill", "positions that stay dense: none, first:N or half", "first:1", "POLICY"),
    _Option("dtype", f"dtype of the weights: {', '.join(DTYPES)}; auto is bfloat16 where the "
            "target is fast at it", "auto", "DTYPE"),
    _Option("target", "where models run: auto, cpu, cuda or cuda:N", "cpu", "TARGET"),
    _Option("data", "task items: vendored (in this package) or full (downloads the standard "
            "sets)", "vendored", "SET"),
    _Option("train", "when to train spontaneous vectors: never (only shipped and cached ones), "
            "missing (train where none fit) or all (leave out shipped ones)", "never", "WHEN"),
    _Option("spon-sites", f"kinds of sites that have a trained vector, of {','.join(KINDS)}",
            ",".join(KINDS), "LIST"),
    _Option("spon-layers", "layers that have trained vectors: all, N or FIRST-LAST", "all",
            "RANGE"),
    _Option("thresholds", "file of budgets that override the bundled ones", None, "FILE"),
    _Option("gate", f"what a regression against the baseline is: {', '.join(GATE)} (off: nothing "
            "is compared)", "off", "WHAT"),
    _Option("baseline", "folder of a stored run to compare with (speed.json, and records.jsonl for "
            "accuracy)", None, "DIR"),
    _Option("against", "compare the speed of kernels side by side with a git revision of "
            "themselves, or with another kernel (op/name)", None, "REV", ini=False),
    _Option("tolerance", "slow-down that counts, as a fraction (default: 0.08 side by side, 0.05 "
            "on a GPU, 0.1 against a stored run)", None, "X"),
    _Option("update", "write what is measured where --sparsity-thresholds (budgets: the damage "
            "plus a margin, for review) and --sparsity-baseline (times) point", flag=True,
            ini=False),
    _Option("update-new-only", "like --sparsity-update, but keep entries that are there",
            flag=True, ini=False),
    _Option("history", "append what is measured to FILE, one line per run", None, "FILE"),
    _Option("strict", "what would be skipped is a failure: an inconclusive verdict, a cell "
            "without any budget, missing vectors or an absent target", flag=True),
    _Option("report", "folder of records, tables and pictures", "sparsity-report", "DIR"),
    _Option("cache", "folder of downloaded models, calibrations and vectors (default: the "
            "user's cache folder)", None, "DIR"),
    _Option("resume", "go on with the run in the report folder, and measure what it was started "
            "to measure; name thresholds, strict, cache, gate and update again", flag=True,
            ini=False),
    _Option("seed", "seed of item order, choice order, bootstrap and kernel cases", "0", "N"),
    _Option("examples", "cases that hypothesis draws per kernel and check", None, "N"),
)  # fmt: skip


def add_options(parser: pytest.Parser) -> None:
    """Declare every option, in one group, and its ini key."""
    group = parser.getgroup("sparsity", "sparse language models and kernels (pytest-sparsity)")
    for option in _OPTIONS:
        flag = f"--sparsity-{option.name}"
        text = option.help
        if option.name in ("levels", "tasks", "examples"):
            text += " (default: the profile's)"
        elif option.default is not None:
            text += f" (default: {option.default})"
        text = text.replace("%", "%%")
        if option.flag:
            group.addoption(flag, dest=option.dest, action="store_true", default=None, help=text)
        else:
            group.addoption(
                flag,
                dest=option.dest,
                action="append" if option.repeatable else "store",
                default=None,
                metavar=option.metavar,
                help=text,
            )
        if option.ini:
            kind = "bool" if option.flag else "linelist" if option.repeatable else "string"
            parser.addini(option.dest, f"default of {flag}", type=kind, default=None)  # type: ignore[arg-type]


def read_settings(config: pytest.Config) -> Settings:
    """Read and check all options; what needs heavy imports is checked by the sweep.

    Raises:
        SparsityError: an option has a value it cannot have.
    """
    raw = {option.name: _raw(config, option) for option in _OPTIONS}
    return _settings(raw, config.invocation_params.dir)


def default_settings() -> Settings:
    """The settings of a run without any option or ini key."""
    raw = {o.name: [o.default] if o.repeatable else o.default for o in _OPTIONS}
    return _settings(raw, Path.cwd())


def _settings(raw: Mapping[str, Any], base: Path) -> Settings:
    profile = values.one_of("profile", raw["profile"], tuple(PROFILES))
    defaults = PROFILES[profile]

    def path(name: str) -> Path | None:
        return base / Path(raw[name]).expanduser() if raw[name] else None

    tasks = raw["tasks"]
    report = path("report")
    if report is None:
        raise values.bad("report", raw["report"], "name a folder")
    gate = values.one_of("gate", raw["gate"], GATE)
    _check_gate(raw, gate)
    return Settings(
        sweep=bool(raw["sweep"]),
        suites=values.choices("suite", raw["suite"], SUITES),
        profile=profile,
        models=values.models(raw["model"]),
        methods=tuple(m for m in values.names("methods", raw["methods"]) if m != "dense"),
        levels=defaults.levels if raw["levels"] is None else values.levels(raw["levels"]),
        spon=values.choices("spon", raw["spon"], SPON),
        tasks=(
            defaults.tasks
            if tasks is None
            else ()
            if tasks == "none"
            else values.names("tasks", tasks)
        ),
        corpora=values.names("corpora", raw["corpora"]),
        calibration=raw["calibration"],
        prefill=raw["prefill"],
        dtype=values.one_of("dtype", raw["dtype"], DTYPES),
        target=raw["target"],
        data=values.one_of("data", raw["data"], DATA),
        train=values.one_of("train", raw["train"], TRAIN),
        spon_sites=values.choices("spon-sites", raw["spon-sites"], KINDS),
        spon_layers=values.layers(raw["spon-layers"]),
        thresholds=path("thresholds"),
        gate=gate,
        baseline=path("baseline"),
        against=raw["against"],
        tolerance=values.tolerance(raw["tolerance"]),
        update=bool(raw["update"]),
        update_new_only=bool(raw["update-new-only"]),
        history=path("history"),
        strict=bool(raw["strict"]),
        report=report,
        cache=path("cache"),
        resume=bool(raw["resume"]),
        seed=values.whole("seed", raw["seed"], 0),
        examples=(
            defaults.sizes.examples
            if raw["examples"] is None
            else values.whole("examples", raw["examples"], 1)
        ),
    )


#: Fields that do not decide what is measured.
_NOT_MEASURED = frozenset(
    {
        *("sweep", "resume", "report", "cache", "thresholds", "update", "update_new_only"),
        *("gate", "baseline", "against", "tolerance", "history", "strict"),
    }
)


def to_json(settings: Settings) -> dict[str, Any]:
    """What :func:`resumed` needs, as plain JSON: everything but where and how to report."""
    plain = {
        name: getattr(settings, name)
        for name in Settings.__dataclass_fields__
        if name not in _NOT_MEASURED
    }
    return {name: list(v) if isinstance(v, tuple) else v for name, v in plain.items()}


def resumed(settings: Settings, saved: Mapping[str, Any]) -> Settings:
    """``settings`` with everything that decides what is measured taken from ``saved``.

    Raises:
        SparsityError: ``saved`` is not what :func:`to_json` made.
    """
    if set(saved) != set(to_json(settings)):
        raise SparsityError(
            f"--sparsity-resume: {settings.report / 'settings.json'} is of another version; "
            "start anew with the options of the first run"
        )
    taken: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in saved.items()
    }
    return replace(settings, sweep=True, **taken)


def _raw(config: pytest.Config, option: _Option) -> Any:
    given = config.getoption(option.dest)
    if given is None and option.ini:
        given = config.getini(option.dest)
        if given in ("", []) or (option.flag and given is None):
            given = None
    if given is None:
        return [option.default] if option.repeatable else option.default
    return given


def _check_gate(raw: Mapping[str, Any], gate: str) -> None:
    against, baseline = raw["against"], raw["baseline"]
    updating = [name for name in ("update", "update-new-only") if raw[name]]
    if against is not None and (not against.strip() or against.startswith("-")):
        raise values.bad("against", against, "name a git revision, or a kernel as op/name")
    if gate != "off" and not (against or baseline):
        fix = (
            "there is nothing to compare with; name a stored run with --sparsity-baseline, or a "
            "revision or kernel with --sparsity-against"
        )
        raise values.bad("gate", gate, fix)
    if against and gate == "off":
        fix = "add --sparsity-gate=fail (or warn), or nothing is compared"
        raise values.bad("against", against, fix)
    if updating and not (raw["thresholds"] or baseline):
        raise SparsityError(
            f"--sparsity-{updating[0]}: say where to: --sparsity-thresholds FILE for budgets, "
            "--sparsity-baseline DIR for times, or both"
        )
    if raw["update"] and baseline and gate != "off":
        raise SparsityError(
            "--sparsity-update: it would replace what --sparsity-gate compares with; leave out "
            "one of the two, or use --sparsity-update-new-only"
        )
