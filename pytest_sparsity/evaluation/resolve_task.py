"""The task that an entry of ``--sparsity-tasks`` names: ours, the user's, or one of lm-eval."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.progress import Progress, silent
from pytest_sparsity.evaluation import harness
from pytest_sparsity.evaluation.harness import HarnessTask
from pytest_sparsity.evaluation.tasks import TASKS, Task, shuffled, task
from pytest_sparsity.evaluation.user_files import is_path
from pytest_sparsity.settings.options import Data


def resolve_task(
    name: str,
    *,
    seed: int,
    data: Data = "vendored",
    cache: Path | None = None,
    progress: Progress = silent,
    own: Mapping[str, Task] = MappingProxyType({}),
) -> Task | HarnessTask:
    """A task by its name in ``--sparsity-tasks``.

    Names of ours and of ``own`` come first; ``lm-eval:NAME`` is always lm-eval's, and so is any
    other name where lm-eval is installed, and a path that ends in ``.yaml``.

    Args:
        name: an entry of the option.
        seed: decides the order of the items.
        data: for ours, see :func:`~.tasks.task`.
        cache: for ours.
        progress: shows downloads.
        own: tasks of others by name.

    Raises:
        SparsityError: there is no such task, or it cannot be read.
    """
    if name in own:
        return shuffled(own[name], seed)
    bare = name.removeprefix(harness.PREFIX)
    if bare != name or harness.names_file(name):
        return harness.load(bare, seed=seed)
    if name not in TASKS and not is_path(name) and harness.installed():
        return harness.load(name, seed=seed)
    try:
        return task(name, seed=seed, data=data, cache=cache, progress=progress)
    except SparsityError as error:
        if name in TASKS or is_path(name):
            raise
        offered = f" (and of pytest_sparsity_tasks {', '.join(sorted(own))})" if own else ""
        raise SparsityError(
            f"{error}{offered}; with the extra lm-eval installed "
            "(pip install 'pytest-sparsity[lm-eval]') also its tasks"
        ) from None
