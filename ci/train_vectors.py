"""Trains the spontaneous vectors that are shipped with the package.

    python ci/train_vectors.py --model smollm2-135m --levels 0.25,0.4,0.5
    python ci/train_vectors.py --model smollm2-135m --levels 0.5 --weights int8,wanda-0.5

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

from pytest_sparsity.compression.names import CASTS
from pytest_sparsity.evaluation import standard
from pytest_sparsity.files import sha256_text
from pytest_sparsity.option_values import weights as parse_weights
from pytest_sparsity.options import default_settings
from pytest_sparsity.progress import on_stream
from pytest_sparsity.spon.library import SHIPPED, file_name
from pytest_sparsity.spon.training import Recipe, train
from pytest_sparsity.spon.vectors import SpontaneousVectors
from pytest_sparsity.sweep.bench import Bench
from pytest_sparsity.sweep.cell import Configuration


def main() -> None:
    """Train and write one file per weights and level."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m", help="known name of the model")
    parser.add_argument("--levels", default="0.25,0.4,0.5", help="comma-separated levels")
    parser.add_argument("--weights", default="loaded", help="as of --sparsity-weights")
    parser.add_argument("--steps", type=int, default=Recipe().steps, help="optimiser steps at most")
    given = parser.parse_args()
    levels = tuple(float(level) for level in given.levels.split(","))
    compressions = parse_weights(given.weights)
    if casts := [name for name in compressions if name in CASTS]:
        parser.error(f"the vectors of loaded weights serve {casts[0]}, too; leave it out")

    progress = on_stream(sys.stderr)
    settings = replace(default_settings(), models=(given.model,), levels=levels)
    bench = Bench(settings, progress)
    model = bench.model(given.model)
    wikipedia = "\n\n".join(standard.read_wikipedia(standard.fetch(bench.cache, progress)))
    tokens = torch.tensor(model.tokenizer(wikipedia, add_special_tokens=False).input_ids)
    streams = {**bench.training_streams(given.model), "wikipedia": tokens}
    origin = {
        "text": list(streams),
        "text_hash": sha256_text(*(f"{s}:{t.tolist()}" for s, t in streams.items()))[:16],
        "command": shlex.join(["python", *sys.argv]),
    }
    recipe = replace(Recipe(), steps=given.steps)
    for weights, level in itertools.product(compressions, sorted(levels, reverse=True)):
        plan = bench.plan(Configuration(given.model, "teal", level, weights=weights))
        student = bench.weighted_model(given.model, weights)
        trained = train(student, plan, list(streams.values()), recipe, progress, teacher=model)
        path = SHIPPED / file_name(given.model, "teal", level, weights)
        SpontaneousVectors(trained.a, {**trained.provenance, **origin}).save(path)
        looks = trained.provenance["held_out_loss"]
        print(f"{path}: held-out KL {looks[0][1]} -> {min(loss for _, loss in looks)}")


if __name__ == "__main__":
    main()
