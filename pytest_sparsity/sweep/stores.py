"""All stores of a run; each is given the stores that it uses, and knows no others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pytest_sparsity.core.files import default_cache
from pytest_sparsity.core.progress import Progress, silent
from pytest_sparsity.methods.prefill import PrefillPolicy
from pytest_sparsity.settings.settings import Settings
from pytest_sparsity.sweep.calibration_store import CalibrationStore
from pytest_sparsity.sweep.chosen_methods import ChosenMethods
from pytest_sparsity.sweep.configured_model import ConfiguredModel
from pytest_sparsity.sweep.dense_cache import DenseCache
from pytest_sparsity.sweep.model_store import ModelStore
from pytest_sparsity.sweep.offered import NOTHING, Offered
from pytest_sparsity.sweep.plan_store import PlanStore
from pytest_sparsity.sweep.record_key import RecordKeys
from pytest_sparsity.sweep.text_store import TextStore
from pytest_sparsity.sweep.weight_store import WeightStore
from pytest_sparsity.targets import HardwareTarget, resolve_target


@dataclass(frozen=True)
class Stores:
    """What a cell is resolved from; everything is made when first needed, once per run.

    Attributes:
        settings: what the user asked for.
        progress: shows downloads, calibration and training.
        cache: folder that downloads and preparations are kept in.
        target: the machine that models run on.
        methods: by name.
        models: dense, as they were loaded.
        texts: corpora and tasks.
        weights: compressed models.
        calibrations: of models with any weights.
        plans: of configurations, with their vectors.
        configured: the model that has a plan attached.
        dense: what dense models give on text.
        keys: of records.
    """

    settings: Settings
    progress: Progress
    cache: Path
    target: HardwareTarget
    methods: ChosenMethods
    models: ModelStore
    texts: TextStore
    weights: WeightStore
    calibrations: CalibrationStore
    plans: PlanStore
    configured: ConfiguredModel
    dense: DenseCache
    keys: RecordKeys


def make_stores(
    settings: Settings, progress: Progress = silent, offered: Offered = NOTHING
) -> Stores:
    """Put the stores of a run together; loads nothing.

    Args:
        settings: what the user asked for.
        progress: shows downloads, calibration and training.
        offered: models, methods, tasks and corpora that hooks add to the bundled ones.

    Raises:
        SparsityError: a setting names something that does not exist.
    """
    cache = settings.cache or default_cache()
    prefill = PrefillPolicy.parse(settings.prefill)
    target = resolve_target(settings.target)
    chosen = ChosenMethods(settings, offered.methods)
    models = ModelStore(settings, cache, progress, chosen.given, offered.models)
    texts = TextStore(settings, cache, progress, models, offered.tasks, offered.corpora)
    weights = WeightStore(models, texts, cache, progress)
    calibrations = CalibrationStore(settings, cache, progress, prefill, chosen, texts, weights)
    plans = PlanStore(settings, cache, progress, chosen, models, texts, calibrations)
    return Stores(
        settings=settings,
        progress=progress,
        cache=cache,
        target=target,
        methods=chosen,
        models=models,
        texts=texts,
        weights=weights,
        calibrations=calibrations,
        plans=plans,
        configured=ConfiguredModel(weights, plans),
        dense=DenseCache(
            models,
            # By the policy "half" it matters to the first tokens how many follow.
            share=prefill.name != "half",
            new_tokens=settings.sizes.new_tokens,
        ),
        keys=RecordKeys(settings, target, chosen, texts, weights, calibrations, plans),
    )
