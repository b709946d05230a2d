"""Named models, where they come from, and which of their layers are sparsified.

Importing this package imports neither torch nor transformers; loading a model does.
"""

from pytest_sparsity.models.catalog import KNOWN
from pytest_sparsity.models.language_model import LanguageModel, Site
from pytest_sparsity.models.loading import load_model
from pytest_sparsity.models.prepare import PreparedModel, prepare_model
from pytest_sparsity.settings.options import KINDS

__all__ = [
    "KINDS",
    "KNOWN",
    "LanguageModel",
    "PreparedModel",
    "Site",
    "load_model",
    "prepare_model",
]
