"""The --sparsity-* options and ini keys, as a table: every session of pytest reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from pytest_sparsity.settings import parsing as to
from pytest_sparsity.settings.parsing import Parse

DEFAULT_MODEL = "smollm2-135m"
SUITES = ("kernels", "accuracy", "performance", "claims")
OFF, MEAN_RESIDUAL, TRAINED = SPON = ("off", "mean_residual", "trained")
#: The kinds of sites, in the order in which a layer's sites are listed.
KINDS = ("q", "k", "v", "o", "gate", "up", "down")
DTYPES = ("auto", "bfloat16", "float32", "float16")
GATE = ("off", "warn", "fail")
#: What may differ between the two sides that are compared, on request.
WEIGHTS = "weights"
PROFILES = ("smoke", "quick", "full")
Data = Literal["vendored", "full"]
DATA = get_args(Data)
TRAIN = ("never", "missing", "all")


class Option(NamedTuple):
    """One option: ``--sparsity-NAME``, perhaps an ini key, and a field of ``Settings``.

    Attributes:
        name: of the option.
        help: what ``pytest --help`` says.
        default: its text if it is not given; None for none.
        metavar: stands for the value in ``pytest --help``.
        parse: makes the value of the field; not called for what is not given and has no default,
            which is None.
        own_field: name of the field of ``Settings`` if it is not that of the option.
        repeatable: it may be given more than once.
        flag: it takes no value.
        path: it is a file or folder; relative paths start where pytest was started.
        of_profile: what is not given is as the profile has it, under the name of the field.
        measured: it decides what is measured, so a resumed run takes it from the first one.
        ini: it has an ini key, ``sparsity_NAME``; options of one run have none.
        formerly: the name that it had before, which works for one release.
        bare: the text that it stands for where it is given without a value; None where it must
            have one.
    """

    name: str
    help: str
    default: str | None = None
    metavar: str | None = None
    parse: Parse = to.as_given
    own_field: str | None = None
    repeatable: bool = False
    flag: bool = False
    path: bool = False
    of_profile: bool = False
    measured: bool = True
    ini: bool = True
    formerly: str | None = None
    bare: str | None = None

    @property
    def field(self) -> str:
        """Of ``Settings``."""
        return self.own_field or self.name.replace("-", "_")

    @property
    def dest(self) -> str:
        """Name of the value and of the ini key."""
        return "sparsity_" + self.name.replace("-", "_")

    @property
    def former(self) -> Option | None:
        """The same under the name that it had before."""
        return self._replace(name=self.formerly, formerly=None) if self.formerly else None

    def value(self, given: Any, base: Path, profile: object) -> Any:
        """The value of the field.

        Args:
            given: text, or a list of texts if it is repeatable, or whether a flag is set; None if
                it was not given.
            base: folder that relative paths start from.
            profile: has what is not given.

        Raises:
            SparsityError: the option cannot have this value.
        """
        if self.flag:
            return bool(given)
        if given is None and self.default is not None:
            given = [self.default] if self.repeatable else self.default
        if given is None and self.of_profile:
            return getattr(profile, self.field)
        if self.path:
            given = base / Path(given).expanduser() if given else None
        elif given is None:
            return None
        return self.parse(self.name, given)


#: In the order of ``pytest --help``.  A new option is a row here, and a field of ``Settings``.
OPTIONS = (
    Option("sweep", "measure the whole grid; without paths, run the bundled suites", flag=True,
            measured=False, ini=False),
    Option("plan", "print what a sweep would take and show, from what earlier runs measured: "
            "cells, time, the smallest effect of each metric that it finds, and how much data half "
            "of that takes, or an effect of X (0.01 is 1 % of perplexity, 1 point, 0.01 nats); "
            "measures and writes nothing", None, "X", to.effect, measured=False, ini=False,
            bare=""),
    Option("suite", f"bundled suites to run, of {', '.join(SUITES)}", "kernels,accuracy",
            "LIST", to.some_of(SUITES), "suites"),
    Option("profile", f"amount of work: {', '.join(PROFILES)}", "quick", "NAME",
            to.one_of(PROFILES)),
    Option("model", "model to sparsify: a known name, a local folder, a GGUF file, a hub id, or "
            "tiny:FOLDER or tiny:org/name for its architecture in small with random weights",
            DEFAULT_MODEL, "MODEL", to.models, "models", repeatable=True),
    Option("allow-unused", "measure models without what is in their files and not used: tensors, "
            "keys of GGUF files, adapters", flag=True),
    Option("trust-remote-code", "run the code that comes with a model, where transformers lacks "
            "its class; it may do anything on this machine", flag=True),
    Option("weights", "weights: loaded, cast to float32, or compressed as int8, int4, gptq4, "
            "magnitude-0.5, wanda-0.5, sparsegpt-0.5, wanda-2:4 and so on", "loaded", "LIST",
            to.names),
    Option("methods", "methods that choose what to skip; dense is always measured", "teal",
            "LIST", to.methods),
    Option("levels", "target fractions of zeroed activations, from 0 to 1", None, "LIST", to.levels,
            of_profile=True),
    Option("predictors", "folder or file of what others trained, which takes the place of what "
            "would be trained or counted: predictors of PowerInfer or Deja Vu, activation "
            "statistics or *.gpuidx, TEAL's histograms and lookup, CATS' thresholds", None, "PATH",
            to.path_text, path=True),
    Option("spon", f"settings of spontaneous neurons, of {', '.join(SPON)}", ",".join(SPON),
            "LIST", to.some_of(SPON)),
    Option("tasks", "tasks by name, .jsonl files, or KIND:TASK for one evaluation of a task; with "
            "the extra lm-eval also its tasks (lm-eval:NAME, .yaml files); none for no tasks",
            None, "LIST", to.names_or_none, of_profile=True),
    Option("corpora", "evaluation corpora by name, or .txt/.jsonl files", "austen,factbook",
            "LIST", to.names),
    Option("documents", "documents per corpus at first, in place of the profile's", None, "N",
            to.whole(1)),
    Option("items", "items per task at first, in place of the profile's", None, "N", to.whole(1)),
    Option("calibration", "corpus for thresholds and training; A+B mixes two",
            "austen+jargon", "NAME"),
    Option("prefill", "positions that stay dense: none, first:N or half", "first:1", "POLICY"),
    Option("dtype", f"dtype of the weights: {', '.join(DTYPES)}; auto is bfloat16 where the "
            "target is fast at it", "auto", "DTYPE", to.one_of(DTYPES)),
    Option("target", "where models run: auto, cpu, cuda or cuda:N", "cpu", "TARGET"),
    Option("data", "task items: vendored (in this package) or full (downloads the standard "
            "sets)", "vendored", "SET", to.one_of(DATA)),
    Option("train", "when to train spontaneous vectors: never (only shipped and cached ones), "
            "missing (train where none fit) or all (leave out shipped ones)", "never", "WHEN",
            to.one_of(TRAIN)),
    Option("spon-sites", f"kinds of sites that have a trained vector, of {','.join(KINDS)}",
            ",".join(KINDS), "LIST", to.some_of(KINDS)),
    Option("spon-layers", "layers that have trained vectors: all, N or FIRST-LAST", "all",
            "RANGE", to.layers),
    Option("budgets", "file of budgets that override the bundled ones", None, "FILE",
            path=True, measured=False, formerly="thresholds"),
    Option("gate", "what to do about a regression against --sparsity-baseline or "
            f"--sparsity-against: {', '.join(GATE)} (off: nothing is compared)", "off", "WHAT",
            to.one_of(GATE), measured=False),
    Option("baseline", "folder of a stored run to compare with (speed.json, and records.jsonl for "
            "accuracy)", None, "DIR", path=True, measured=False),
    Option("against", "compare the speed of kernels side by side with a git revision of "
            "themselves, or with another kernel (op/name)", None, "REV", measured=False, ini=False),
    Option("across", "what may differ from --sparsity-baseline and is held against it: weights (a "
            "changed model: dense against dense, sparse against sparse, and what sparsity costs)",
            None, "WHAT", to.one_of((WEIGHTS,)), measured=False, ini=False),
    Option("tolerance", "slow-down of a kernel that counts, as a fraction (default: 0.04 side by "
            "side, 0.05 on a GPU, 0.1 against a stored run)", None, "X",
            to.fraction, measured=False),
    Option("update", "write what is measured where --sparsity-budgets (budgets: the damage "
            "plus a margin, for review) and --sparsity-baseline (times and records) point",
            flag=True, measured=False, ini=False),
    Option("update-new-only", "like --sparsity-update, but keep entries that are there",
            flag=True, measured=False, ini=False),
    Option("history", "append what is measured to FILE, one line per run and machine", None,
            "FILE", path=True, measured=False),
    Option("strict", "what would be skipped is a failure: an inconclusive verdict, a cell "
            "without any budget, missing vectors or an absent target", flag=True,
            measured=False),
    Option("run-error", "chance that a run in which nothing is wrong is red: what is beyond its "
            "limit alone, and does not hold among all decisions of the run, is suspect and not "
            "red", "0.01", "X", to.fraction, measured=False),
    Option("report", "folder of records, tables and pictures", "sparsity-report", "DIR",
            to.folder, path=True, measured=False),
    Option("cache", "folder of downloaded models, calibrations and vectors (default: the "
            "user's cache folder)", None, "DIR", path=True, measured=False),
    Option("resume", "go on with the run in the report folder, and measure what it was started "
            "to measure; name budgets, strict, run-error, cache, gate and update again", flag=True,
            measured=False, ini=False),
    Option("kernels", "kernels that are checked and timed, as patterns of op/name (default: those "
            "that the repository registers itself, or all if it registers none)", None,
            "GLOB[,GLOB]", to.names),
    Option("rerun", "check kernels again, also where an earlier run in the report folder checked "
            "the same with the same code", flag=True, measured=False, ini=False),
    Option("seed", "seed that draws evaluation documents, prompts and items, the order of choices, "
            "the bootstrap and kernel cases; 0 reads corpora in their own order", "0", "N",
            to.whole(0)),
    Option("examples", "cases that hypothesis draws per kernel and check", None, "N", to.whole(1),
            of_profile=True),
)  # fmt: skip
