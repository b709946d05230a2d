"""What other engines logged of a task, item by item: ``samples_*.jsonl`` of lm-eval, and alike.

A line is an item: ``doc_id``, ``metrics`` (the names of those fields that say how it was scored)
and these; hashes of the question, the prompt and the target where lm-eval wrote the file.  That is
what ``lm_eval --log_samples --output_path FOLDER`` leaves behind, with results (means, and which
metrics are better when higher) in a file beside it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_sparsity.core.errors import SparsityError

_NAME = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?)")
_HASHES = ("doc_hash", "prompt_hash", "target_hash")
#: A metric that sums over texts: its value is a log-likelihood in nats, and what it is divided by.
SUMMED = ("bits_per_byte", "byte_perplexity", "word_perplexity")
#: Its value is the log-likelihood of an item, in nats.
LIKELIHOOD = "perplexity"
#: Better when lower, where no file of results says which are.
_LOWER = frozenset((*SUMMED, LIKELIHOOD, "brier_score", "wer", "cer", "ter", "mse", "mae", "loss"))


@dataclass(frozen=True)
class Sample:
    """One item as it was logged.

    Attributes:
        values: by metric: a number, or of a metric in ``SUMMED`` log-likelihood and length;
            None where the metric cannot be told item by item.
        hashes: of question, prompt and target, as far as they were logged.
        answer: what the model gave, as it was logged; None if it was not.
        line: of the file.
    """

    values: Mapping[str, tuple[float, ...] | None]
    hashes: Mapping[str, str]
    answer: Any
    line: int


@dataclass(frozen=True)
class LoggedTask:
    """The items of one task, by filter and by id.

    Attributes:
        path: the file.
        task: its name; empty where the file's name does not say.
        filters: what was made of the answers (``none``, ``strict-match`` ...), and the items.
        lower: whether a metric is better when lower, as far as a file of results says.
        facts: of the run: version of the task and number of shots, as far as they are known.
    """

    path: Path
    task: str
    filters: Mapping[str, Mapping[str, Sample]]
    lower: Mapping[str, bool] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def better_when_lower(self, metric: str) -> bool:
        """Whether less of a metric is better."""
        return self.lower.get(metric, metric in _LOWER)


def sample_files(path: Path, option: str) -> list[Path]:
    """The files of logged samples that a path names: itself, or those in a folder.

    Args:
        path: a ``.jsonl`` file, a file of results with the samples beside it, or a folder.
        option: what named it, for messages.

    Returns:
        None of them if it is no such folder or file.

    Raises:
        SparsityError: there are results and no samples.
    """
    if path.is_dir():
        if found := sorted(path.rglob("samples_*.jsonl")):
            return found
        results = sorted(path.rglob("results_*.json"))
    elif path.suffix == ".jsonl":
        return [path]
    elif path.suffix == ".json" and path.is_file():
        date = path.stem.partition("_")[2]
        if date and (found := sorted(path.parent.glob(f"samples_*_{date}.jsonl"))):
            return found
        results = [path]
    else:
        return []
    if results:
        raise SparsityError(
            f"{option} {results[0]}: it holds means, and nothing of single items to be paired; run "
            "lm-eval again with --log_samples"
        )
    return []


def read_tasks(
    files: Sequence[Path], option: str, metrics: Sequence[str] = ()
) -> dict[str, LoggedTask]:
    """Logged tasks by name.

    Args:
        files: of :func:`sample_files`.
        option: what named them, for messages.
        metrics: fields that are metrics, where lines do not say which are.

    Raises:
        SparsityError: a file cannot be read, is empty or damaged, has an item twice or a value
            that is not finite; or two files are of one task.
    """
    found: dict[str, LoggedTask] = {}
    for path in files:
        task = _read(path, option, metrics)
        if task.task in found:
            raise SparsityError(
                f"{option} {path}: {found[task.task].path.name} is of task {task.task!r}, too; "
                "name one of the two files"
            )
        found[task.task] = task
    return found


def _read(path: Path, option: str, metrics: Sequence[str]) -> LoggedTask:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise SparsityError(
            f"{option} {path}: cannot be read ({error.strerror}); name a file of logged samples"
        ) from error
    except UnicodeDecodeError as error:
        raise SparsityError(f"{option} {path}: is no text ({error}); name another file") from error
    filters: dict[str, dict[str, Sample]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{option} {path}: line {number}"
        content = _parsed(line, where)
        samples = filters.setdefault(str(content.get("filter", "none")), {})
        id = _id(content, where)
        if id in samples:
            raise SparsityError(
                f"{where} has item {id} again, which line {samples[id].line} has already; keep "
                "one line per item"
            )
        samples[id] = _sample(content, number, where, metrics)
    if not filters:
        raise SparsityError(f"{option} {path}: it is empty; run the task again")
    name = _NAME.fullmatch(path.stem)
    if name is None:
        return LoggedTask(path, "", filters)
    lower, facts = _results(path.with_name(f"results_{name['date']}.json"), name["task"])
    return LoggedTask(path, name["task"], filters, lower, facts)


def _parsed(line: str, where: str) -> dict[str, Any]:
    try:
        content = json.loads(line)
    except ValueError as error:
        raise SparsityError(
            f"{where} is damaged ({error}); write the file again or remove the line"
        ) from error
    if not isinstance(content, dict):
        raise SparsityError(f"{where} is no logged item; name a samples_*.jsonl of lm-eval")
    return content


def _id(content: Mapping[str, Any], where: str) -> str:
    for name in ("doc_id", "id", "doc_hash"):
        if isinstance(id := content.get(name), (int, str)) and not isinstance(id, bool):
            return str(id)
    raise SparsityError(
        f"{where} has no doc_id, so its item cannot be paired; name a samples_*.jsonl of lm-eval, "
        "or write lines with doc_id, metrics and their values"
    )


def _sample(content: Mapping[str, Any], number: int, where: str, metrics: Sequence[str]) -> Sample:
    names = content.get("metrics") or metrics
    if not names or not isinstance(names, (list, tuple)):
        raise SparsityError(
            f"{where} does not say in `metrics` which of its fields are scores; name them with "
            "--metric"
        )
    if missing := [name for name in names if name not in content]:
        raise SparsityError(f"{where} lacks the metric {missing[0]}; write it for every item")
    return Sample(
        {name: _value(name, content[name], where) for name in names},
        {name: content[name] for name in _HASHES if isinstance(content.get(name), str)},
        content.get("filtered_resps"),
        number,
    )


def _value(name: str, value: Any, where: str) -> tuple[float, ...] | None:
    """The numbers of a metric; None where it is no number, such as the two texts of BLEU."""
    if name in SUMMED:
        parts = value if isinstance(value, list) and len(value) == 2 else None
    else:
        parts = [value]
    if parts is None or not all(isinstance(part, (int, float)) for part in parts):
        return None
    if not all(map(math.isfinite, parts)):
        raise SparsityError(
            f"{where} has the {name} {value}; an item without a score cannot be compared, run it "
            "again or remove it from both files"
        )
    if name in SUMMED and parts[1] <= 0:
        raise SparsityError(f"{where} has a text of length {parts[1]} for {name}; remove the line")
    return tuple(float(part) for part in parts)


def _results(path: Path, task: str) -> tuple[dict[str, bool], dict[str, Any]]:
    """Which metrics are better when lower, and facts of the run, if the file is there."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        higher = dict(content["higher_is_better"][task])
    except (OSError, ValueError, KeyError, TypeError):
        return {}, {}
    lower = {name: not better for name, better in higher.items() if isinstance(better, bool)}
    facts = {"versions": "task versions", "n-shot": "numbers of shots"}
    known = {
        meaning: content[name][task]
        for name, meaning in facts.items()
        if isinstance(content.get(name), dict) and task in content[name]
    }
    return lower, known
