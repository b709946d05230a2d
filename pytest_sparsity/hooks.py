"""For conftest files and plugins: what they offer through hooks, and what that is made of.

Methods, tasks, corpora and models of one's own become known by a hook that returns them; see
docs/extending.md.  What hooks are told of is in ``pytest_sparsity.results``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_sparsity.core.public import names

if TYPE_CHECKING:
    from pytest_sparsity.core.progress import Phase as Phase
    from pytest_sparsity.core.progress import Progress as Progress
    from pytest_sparsity.evaluation.corpora import Corpus as Corpus
    from pytest_sparsity.evaluation.corpora import Document as Document
    from pytest_sparsity.evaluation.corpora import make_corpus as make_corpus
    from pytest_sparsity.evaluation.items import Item as Item
    from pytest_sparsity.evaluation.tasks import Task as Task
    from pytest_sparsity.evaluation.tasks import make_task as make_task
    from pytest_sparsity.methods.attach import AchievedSparsity as AchievedSparsity
    from pytest_sparsity.methods.calibration import Distribution as Distribution
    from pytest_sparsity.methods.given.given import Given as Given
    from pytest_sparsity.methods.given.given import GivenPredictors as GivenPredictors
    from pytest_sparsity.methods.given.teal import Histogram as Histogram
    from pytest_sparsity.methods.given.teal import Row as Row
    from pytest_sparsity.methods.given.teal import TealFiles as TealFiles
    from pytest_sparsity.methods.plan import NeuronSelector as NeuronSelector
    from pytest_sparsity.methods.registry import Method as Method
    from pytest_sparsity.methods.statistics import Cost as Cost
    from pytest_sparsity.methods.statistics import Statistic as Statistic
    from pytest_sparsity.methods.statistics import Summed as Summed
    from pytest_sparsity.methods.stored import Quantile as Quantile
    from pytest_sparsity.methods.stored import Store as Store
    from pytest_sparsity.models.backbone import SiteLayout as SiteLayout
    from pytest_sparsity.models.own import OwnModel as OwnModel
    from pytest_sparsity.reporting.summary import Section as Section

_HOME = {
    "AchievedSparsity": "methods.attach",
    "Corpus": "evaluation.corpora",
    "Cost": "methods.statistics",
    "Distribution": "methods.calibration",
    "Document": "evaluation.corpora",
    "Given": "methods.given.given",
    "GivenPredictors": "methods.given.given",
    "Histogram": "methods.given.teal",
    "Item": "evaluation.items",
    "Method": "methods.registry",
    "NeuronSelector": "methods.plan",
    "OwnModel": "models.own",
    "Phase": "core.progress",
    "Progress": "core.progress",
    "Quantile": "methods.stored",
    "Row": "methods.given.teal",
    "Section": "reporting.summary",
    "SiteLayout": "models.backbone",
    "Statistic": "methods.statistics",
    "Store": "methods.stored",
    "Summed": "methods.statistics",
    "Task": "evaluation.tasks",
    "TealFiles": "methods.given.teal",
    "make_corpus": "evaluation.corpora",
    "make_task": "evaluation.tasks",
}

__all__, __getattr__ = names(__name__, _HOME)
