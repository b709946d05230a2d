"""``pytest-sparsity train predictors``: PowerInfer's predictors of a model, in its own formats."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from pytest_sparsity.cli.parser import Parser, writing
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.files import check_writable
from pytest_sparsity.core.progress import on_stream
from pytest_sparsity.settings.options import DTYPES
from pytest_sparsity.settings.parsing import parse_level
from pytest_sparsity.settings.settings import default_settings

SUMMARY = "train predictors of a model's neurons and write them as PowerInfer reads them"


def add_arguments(parser: Parser) -> None:
    """The model, and where to write."""
    parser.add_argument("--model", default="smollm2-135m", help="as of --sparsity-model")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="model_0.pt and so on, config.json, activation/"
    )
    parser.add_argument(
        "--gguf", type=Path, metavar="FILE", help="model and predictors, *.powerinfer.gguf"
    )
    parser.add_argument(
        "--level",
        help="mean share of the neurons that the threshold skips which is written with them "
        "(default: none is written, and the engine takes 0)",
    )
    parser.add_argument("--dtype", default="auto", help="as of --sparsity-dtype")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="as of --sparsity-cache")


def run(given: argparse.Namespace) -> None:
    """Train and write."""
    if given.out is None and given.gguf is None:
        raise SparsityError(
            "nothing to write: name a folder with --out, a file with --gguf, or both"
        )
    level = None if given.level is None else parse_level(given.level, "--level")
    if given.dtype not in DTYPES:
        raise SparsityError(f"--dtype {given.dtype!r}: use one of {', '.join(DTYPES)}")
    for option, folder in (("--out", given.out), ("--gguf", given.gguf and given.gguf.parent)):
        if folder is not None:  # rather than after the training
            with writing(option, folder):
                check_writable(folder)
    _train(given, level)


def _train(given: argparse.Namespace, level: float | None) -> None:
    from pytest_sparsity.methods.given.activations import write_activations
    from pytest_sparsity.methods.given.powerinfer import write_predictors
    from pytest_sparsity.methods.neurons.activity import calibrated_counts
    from pytest_sparsity.methods.neurons.predicted import PowerInfer
    from pytest_sparsity.models.powerinfer_write import write_powerinfer_gguf
    from pytest_sparsity.sweep.stores import make_stores

    settings = replace(
        default_settings(), models=(given.model,), dtype=given.dtype, cache=given.cache
    )
    stores = make_stores(settings, on_stream(sys.stderr))
    (model,) = stores.models.load_all().values()
    calibrator = stores.calibrations.calibrator(model.name)
    method = PowerInfer()
    found = method.predictor(calibrator)
    threshold = found.threshold if level is None else method.cut(calibrator, level).value
    # Half precision is what the engine multiplies with, and what is kept in the cache.
    layers = {n: (p.first.half(), p.second.half()) for n, p in found.layers.items()}
    if given.out is not None:
        write_predictors(given.out, layers, threshold)
        write_activations(given.out / "activation", calibrated_counts(calibrator).counts)
        print(f"{given.out}: predictors of {len(layers)} layers, and activation/")
    if given.gguf is not None:
        write_powerinfer_gguf(given.gguf, model, layers, threshold)
        print(f"{given.gguf}: {model.name} with predictors of {len(layers)} layers")
