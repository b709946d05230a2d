"""What plugins and conftest files offer beside what is bundled, for one run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_sparsity.evaluation.corpora import Corpus, Split
from pytest_sparsity.evaluation.tasks import Task
from pytest_sparsity.methods.registry import Method
from pytest_sparsity.models.own import OwnModel


@dataclass(frozen=True)
class Offered:
    """Known to one run only: no name is taken for good.

    Attributes:
        methods: besides the bundled ones.
        models: by name.
        tasks: by name.
        corpora: by name and split.
    """

    methods: tuple[Method, ...] = ()
    models: Mapping[str, OwnModel] = field(default_factory=dict)
    tasks: Mapping[str, Task] = field(default_factory=dict)
    corpora: Mapping[tuple[str, Split], Corpus] = field(default_factory=dict)


NOTHING = Offered()
