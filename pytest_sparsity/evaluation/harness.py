"""Tasks of lm-eval (EleutherAI's lm-evaluation-harness), on a sparse model.

lm-eval makes the prompts, takes the data from the Hugging Face hub and decides what is right;
our model answers.  Nothing of lm-eval is imported before one of its tasks is asked for.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.metadata
import importlib.util
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.files import sha256_text
from pytest_sparsity.evaluation.task_files import Family, Normalisation
from pytest_sparsity.evaluation.tasks import TASKS
from pytest_sparsity.models import LanguageModel

PREFIX = "lm-eval:"
_EXTRA = "pip install 'pytest-sparsity[lm-eval]'"

#: What well-known tasks ask of a model, by the beginnings of their names.
_FAMILIES: Mapping[Family, tuple[str, ...]] = {
    "reasoning": (
        *("gsm8k", "gsm_plus", "bbh", "leaderboard_bbh", "logiqa", "minerva_math"),
        *("hendrycks_math", "drop", "mgsm", "arithmetic", "asdiv", "winogrande", "copa"),
        *("leaderboard_math", "mathqa"),
    ),
    "knowledge": (
        *("arc_", "ai2_arc", "mmlu", "sciq", "triviaqa", "nq_open", "openbookqa", "piqa", "boolq"),
        *("commonsense_qa", "truthfulqa", "webqs", "gpqa", "medmcqa"),
    ),
    "language": ("hellaswag", "lambada", "blimp", "wic", "storycloze", "xcopa"),
}

#: One question: the task it is in, which a group has several of, and its place there.
HarnessItem = tuple[str, int]


@dataclass(frozen=True)
class HarnessTask:
    """A task or a group of tasks of lm-eval, its items in the order in which they are measured.

    Attributes:
        name: as it was asked for, with ``lm-eval:`` before it.
        family: as in :class:`~.tasks.Task`; "user" where it is not known.
        normalisation: "char" where lm-eval has ``acc_norm``, which then counts, else "sum".
        chance: accuracy of blind guessing; 0 where answers are generated.
        items: shuffled by the seed.
        licence: where to read it.
        hash: hex SHA-256 over version, prompts, shots, questions and their order.
        seed: draws the shots.
        tasks: lm-eval's own, by name.
    """

    name: str
    family: Family
    normalisation: Normalisation
    chance: float
    items: tuple[HarnessItem, ...]
    licence: str
    hash: str
    seed: int
    tasks: Mapping[str, Any] = field(repr=False, compare=False)


def installed() -> bool:
    """Whether lm-eval can be imported."""
    return importlib.util.find_spec("lm_eval") is not None


def names_file(name: str) -> bool:
    """Whether ``name`` is that of a file that describes a task of lm-eval."""
    return Path(name).suffix in (".yaml", ".yml")


def load(name: str, *, seed: int) -> HarnessTask:
    """A task of lm-eval by its name, or from the user's ``.yaml`` file.

    Raises:
        SparsityError: lm-eval is not installed, does not know the name, or cannot read the
            task or its data; or the task is not scored item by item.
    """
    if not installed():
        raise SparsityError(f"task {name!r} needs lm-eval; install the extra: {_EXTRA}")
    manager = _manager()
    if names_file(name):
        if not Path(name).is_file():
            raise SparsityError(f"task file {name} does not exist")
    elif name not in manager.all_tasks:
        close = difflib.get_close_matches(name, [*TASKS, *manager.all_tasks], n=3)
        guess = f"; did you mean {', '.join(map(repr, close))}?" if close else ""
        raise SparsityError(
            f"unknown task {name!r}, neither ours nor of lm-eval {_version()}{guess} Ours are "
            f"{', '.join(TASKS)}; `lm-eval ls tasks` lists the others"
        )
    try:
        with _seeded(seed):
            tasks = dict(manager.load([name])["tasks"])
            documents = {task: list(loaded.eval_docs) for task, loaded in tasks.items()}
            shots = {task: _shots(loaded) for task, loaded in tasks.items()}
    except Exception as error:  # whatever data sets, hub clients and task code raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SparsityError(
            f"lm-eval cannot load task {name!r} ({reason}); its data come from the Hugging Face "
            "hub, which needs the network or an earlier download, and some tasks need further "
            "packages"
        ) from error
    for each in tasks.values():
        # What lm-eval's own command does before it evaluates.
        if each.get_config("num_fewshot") is None:
            each.set_config(key="num_fewshot", value=0)
    items = _shuffled(((t, n) for t, docs in documents.items() for n in range(len(docs))), seed)
    if not items:
        raise SparsityError(f"lm-eval's task {name!r} has no items")
    title = f"{PREFIX}{Path(name).stem if Path(name).suffix else name}"
    return HarnessTask(
        name=title,
        family=_family(name),
        normalisation="char" if all(map(_has_acc_norm, tasks.values())) else "sum",
        chance=_chance(tasks, documents, items),
        items=items,
        licence=f"see the data set's card on the Hugging Face hub (lm-eval {_version()})",
        hash=sha256_text(title, _version(), _described(tasks, shots, documents), json.dumps(items)),
        seed=seed,
        tasks=tasks,
    )


def score_harness(
    model: LanguageModel, task: HarnessTask, items: Sequence[HarnessItem], *, share: bool
) -> list[dict[str, Any]]:
    """Let lm-eval evaluate ``items`` on the model.

    Arguments as for :func:`~.choice.score_items`.

    Returns:
        Per item ``id``, ``tokens`` (of each request), ``metrics`` (by name and filter),
        ``right`` and ``right_normalised`` (``acc`` and ``acc_norm``; both the first filter's
        metric where there is no ``acc``).

    Raises:
        SparsityError: a request is too long for the model, is to be sampled, or a metric is
            not right or wrong.
    """
    from lm_eval.evaluator import evaluate

    from pytest_sparsity.evaluation.harness_model import HarnessModel

    wanted: dict[str, list[int]] = defaultdict(list)
    for name, number in items:
        wanted[name].append(number)
    samples = {name: sorted(numbers) for name, numbers in wanted.items()}
    for name in samples:
        # Shots are drawn one item after the other: every model must be shown the same ones.
        task.tasks[name].set_fewshot_seed(seed=task.seed)
    chosen = {"tasks": {n: task.tasks[n] for n in samples}, "groups": {}, "group_map": {}}
    adapter = HarnessModel(model, task.name, share=share)
    with _seeded(task.seed):
        found = evaluate(adapter, chosen, samples=samples, bootstrap_iters=0, log_samples=True)
    logged: dict[HarnessItem, list[dict[str, Any]]] = defaultdict(list)
    for name, entries in found["samples"].items():
        for entry in entries:
            logged[name, entry["doc_id"]].append(entry)
    return [_unit(task, item, logged[item], adapter) for item in items]


def _unit(
    task: HarnessTask, item: HarnessItem, entries: Sequence[Mapping[str, Any]], adapter: Any
) -> dict[str, Any]:
    metrics = {
        f"{metric},{entry['filter']}": entry[metric]
        for entry in entries
        for metric in entry["metrics"]
    }
    first = entries[0]
    primary = next((m for m in ("acc", "exact_match") if m in first["metrics"]), None)
    primary = primary or first["metrics"][0]
    right = first[primary]
    normalised = first.get("acc_norm", right)
    for metric, value in ((primary, right), ("acc_norm", normalised)):
        if not isinstance(value, (bool, int, float)) or float(value) not in (0.0, 1.0):
            raise SparsityError(
                f"task {task.name} cannot be measured: lm-eval scores it by {metric!r}, which is "
                f"not right or wrong ({value!r} for {item[0]} {item[1]})"
            )
    return {
        "id": f"{item[0]}/{item[1]}",
        "tokens": [adapter.length(arguments) for arguments in first["arguments"]],
        "metrics": {name: value for name, value in metrics.items() if _is_number(value)},
        "right": bool(right),
        "right_normalised": bool(normalised),
    }


def _is_number(value: object) -> bool:
    return isinstance(value, (bool, int, float))


@cache
def _manager() -> Any:
    from lm_eval.tasks import TaskManager

    return TaskManager()


def _version() -> str:
    return importlib.metadata.version("lm-eval")


def _family(name: str) -> Family:
    return next((family for family, starts in _FAMILIES.items() if name.startswith(starts)), "user")


def _has_acc_norm(task: Any) -> bool:
    return "acc_norm" in task.higher_is_better()


def _chance(
    tasks: Mapping[str, Any], documents: Mapping[str, list[Any]], items: Sequence[HarnessItem]
) -> float:
    """Accuracy of guessing among the choices, or of saying what is most often right."""
    guessed, answers = 0.0, Counter[str]()
    for name, number in items:
        task, document = tasks[name], documents[name][number]
        if task.OUTPUT_TYPE == "multiple_choice":
            choices, gold = task.doc_to_choice(document), task.doc_to_target(document)
            guessed += 1 / len(choices)
            right = choices[gold] if isinstance(gold, int) and 0 <= gold < len(choices) else gold
            answers.update([right] if right in choices else [])
    return max([guessed, *answers.values()]) / len(items)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Let tasks draw the same every time: some shuffle their choices whenever they are read."""
    own, numpys = random.getstate(), numpy.random.get_state()
    random.seed(seed)
    numpy.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(own)
        numpy.random.set_state(numpys)


def _shots(task: Any) -> list[Any]:
    """What shots are drawn from."""
    return list(task.fewshot_docs()) if task.get_config("num_fewshot") else []


def _described(
    tasks: Mapping[str, Any],
    shots: Mapping[str, list[Any]],
    documents: Mapping[str, list[Any]],
) -> str:
    """Prompts, shots and questions as text; code in a task's configuration is left out.

    So are the places of its data and of its file, which are other ones on every machine.
    """
    places = ("dataset_kwargs", "metadata")
    prompts = {
        name: {k: v for k, v in vars(task.config).items() if k not in places}
        for name, task in tasks.items()
    }

    def described(value: Any) -> Any:
        # The configuration of shots is a class of lm-eval's own; the rest is code or pictures.
        return vars(value) if is_dataclass(value) else type(value).__name__

    return json.dumps([prompts, shots, documents], sort_keys=True, default=described)


def _shuffled(items: Iterable[HarnessItem], seed: int) -> tuple[HarnessItem, ...]:
    """Sorted by hashes of the seed, so that a group's tasks are mixed."""

    def key(item: HarnessItem) -> bytes:
        return hashlib.sha256(f"{seed}:{item[0]}:{item[1]}".encode()).digest()

    return tuple(sorted(items, key=key))
