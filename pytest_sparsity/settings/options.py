"""The --sparsity-* options and ini keys, as a table."""

from __future__ import annotations

from typing import NamedTuple

SUITES = ("kernels", "accuracy", "performance", "claims")
SPON = ("off", "mean_residual", "trained")
KINDS = ("q", "k", "v", "o", "gate", "up", "down")
DTYPES = ("auto", "bfloat16", "float32", "float16")
GATE = ("off", "warn", "fail")
PROFILES = ("smoke", "quick", "full")


class Option(NamedTuple):
    """One option: ``--sparsity-NAME`` and, if ``ini``, the ini key ``sparsity_NAME``.

    ``formerly`` is the name that it had before, which works for one release.
    """

    name: str
    help: str
    default: str | None = None
    metavar: str | None = None
    repeatable: bool = False
    flag: bool = False
    ini: bool = True
    formerly: str | None = None

    @property
    def dest(self) -> str:
        """Name of the value and of the ini key."""
        return "sparsity_" + self.name.replace("-", "_")

    @property
    def former(self) -> Option | None:
        """The same under the name that it had before."""
        return self._replace(name=self.formerly, formerly=None) if self.formerly else None


OPTIONS = (
    Option("sweep", "measure the whole grid; without paths, run the bundled suites", flag=True,
            ini=False),
    Option("suite", f"bundled suites to run, of {', '.join(SUITES)}", "kernels,accuracy",
            "LIST"),
    Option("profile", f"amount of work: {', '.join(PROFILES)}", "quick", "NAME"),
    Option("model", "model to sparsify: a known name, a local folder, a GGUF file or a hub id",
            "smollm2-135m", "MODEL", repeatable=True),
    Option("weights", "weights: loaded, cast to float32, or compressed as int8, int4, gptq4, "
            "magnitude-0.5, wanda-0.5, sparsegpt-0.5, wanda-2:4 and so on", "loaded", "LIST"),
    Option("methods", "methods that choose what to skip; dense is always measured", "teal",
            "LIST"),
    Option("levels", "target fractions of zeroed activations, from 0 to 1", None, "LIST"),
    Option("predictors", "folder or file of what others trained, which takes the place of what "
            "would be trained or counted: predictors of PowerInfer or Deja Vu, activation "
            "statistics or *.gpuidx, TEAL's histograms and lookup, CATS' thresholds", None, "PATH"),
    Option("spon", f"settings of spontaneous neurons, of {', '.join(SPON)}", ",".join(SPON),
            "LIST"),
    Option("tasks", "tasks by name, .jsonl files, or KIND:TASK for one evaluation of a task; with "
            "the extra lm-eval also its tasks (lm-eval:NAME, .yaml files); none for no tasks",
            None, "LIST"),
    Option("corpora", "evaluation corpora by name, or .txt/.jsonl files", "austen,factbook",
            "LIST"),
    Option("calibration", "corpus for thresholds and training; A+B mixes two",
            "austen+jargon", "NAME"),
    Option("prefill", "positions that stay dense: none, first:N or half", "first:1", "POLICY"),
    Option("dtype", f"dtype of the weights: {', '.join(DTYPES)}; auto is bfloat16 where the "
            "target is fast at it", "auto", "DTYPE"),
    Option("target", "where models run: auto, cpu, cuda or cuda:N", "cpu", "TARGET"),
    Option("data", "task items: vendored (in this package) or full (downloads the standard "
            "sets)", "vendored", "SET"),
    Option("train", "when to train spontaneous vectors: never (only shipped and cached ones), "
            "missing (train where none fit) or all (leave out shipped ones)", "never", "WHEN"),
    Option("spon-sites", f"kinds of sites that have a trained vector, of {','.join(KINDS)}",
            ",".join(KINDS), "LIST"),
    Option("spon-layers", "layers that have trained vectors: all, N or FIRST-LAST", "all",
            "RANGE"),
    Option("budgets", "file of budgets that override the bundled ones", None, "FILE",
            formerly="thresholds"),
    Option("gate", "what to do about a regression against --sparsity-baseline or "
            f"--sparsity-against: {', '.join(GATE)} (off: nothing is compared)", "off", "WHAT"),
    Option("baseline", "folder of a stored run to compare with (speed.json, and records.jsonl for "
            "accuracy)", None, "DIR"),
    Option("against", "compare the speed of kernels side by side with a git revision of "
            "themselves, or with another kernel (op/name)", None, "REV", ini=False),
    Option("tolerance", "slow-down of a kernel that counts, as a fraction (default: 0.04 side by "
            "side, 0.05 on a GPU, 0.1 against a stored run)", None, "X"),
    Option("update", "write what is measured where --sparsity-budgets (budgets: the damage "
            "plus a margin, for review) and --sparsity-baseline (times and records) point",
            flag=True, ini=False),
    Option("update-new-only", "like --sparsity-update, but keep entries that are there",
            flag=True, ini=False),
    Option("history", "append what is measured to FILE, one line per run and machine", None,
            "FILE"),
    Option("strict", "what would be skipped is a failure: an inconclusive verdict, a cell "
            "without any budget, missing vectors or an absent target", flag=True),
    Option("report", "folder of records, tables and pictures", "sparsity-report", "DIR"),
    Option("cache", "folder of downloaded models, calibrations and vectors (default: the "
            "user's cache folder)", None, "DIR"),
    Option("resume", "go on with the run in the report folder, and measure what it was started "
            "to measure; name budgets, strict, cache, gate and update again", flag=True,
            ini=False),
    Option("seed", "seed of item order, choice order, bootstrap and kernel cases", "0", "N"),
    Option("examples", "cases that hypothesis draws per kernel and check", None, "N"),
)  # fmt: skip
