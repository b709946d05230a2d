"""Regression tests for sparse language models and their kernels, as a pytest plugin.

Here is what the owner of a model and the author of a method need.  The types of fixtures are in
``pytest_sparsity.fixtures``, what hooks take in ``.hooks``, what authors of kernels and ops need in
``.testing`` and ``.speed``, and readers of results in ``.results``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_sparsity.core import moved
from pytest_sparsity.core.public import names

if TYPE_CHECKING:
    from pytest_sparsity.core.errors import SparsityError as SparsityError
    from pytest_sparsity.core.errors import SparsityWarning as SparsityWarning
    from pytest_sparsity.methods.attach import Attached as Attached
    from pytest_sparsity.methods.attach import sparsify as sparsify
    from pytest_sparsity.methods.calibrator import Calibrator as Calibrator
    from pytest_sparsity.methods.plan import Plan as Plan
    from pytest_sparsity.methods.plan import Selector as Selector
    from pytest_sparsity.methods.plan import Threshold as Threshold
    from pytest_sparsity.methods.prefill import PrefillPolicy as PrefillPolicy
    from pytest_sparsity.methods.spon.vectors import SpontaneousVectors as SpontaneousVectors
    from pytest_sparsity.models import LanguageModel as LanguageModel
    from pytest_sparsity.models import Site as Site
    from pytest_sparsity.models import load_model as load_model
    from pytest_sparsity.models.anew import with_sites_found_anew as with_sites_found_anew
    from pytest_sparsity.models.compression.compress import Compressed as Compressed
    from pytest_sparsity.models.compression.compress import compress as compress

_HOME = {
    "Attached": "methods.attach",
    "Calibrator": "methods.calibrator",
    "Compressed": "models.compression.compress",
    "LanguageModel": "models",
    "Plan": "methods.plan",
    "PrefillPolicy": "methods.prefill",
    "Selector": "methods.plan",
    "Site": "models",
    "SparsityError": "core.errors",
    "SparsityWarning": "core.errors",
    "SpontaneousVectors": "methods.spon.vectors",
    "Threshold": "methods.plan",
    "compress": "models.compression.compress",
    "load_model": "models",
    "sparsify": "methods.attach",
    "with_sites_found_anew": "models.anew",
}


def _version() -> str:
    from importlib.metadata import version

    return version("pytest-sparsity")


moved.install()
__all__, __getattr__ = names(__name__, _HOME, {"__version__": _version})
