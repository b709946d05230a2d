"""``pytest-sparsity train``: spontaneous vectors, or predictors of neurons."""

from __future__ import annotations

import argparse

from pytest_sparsity.cli import train_predictors, train_vectors
from pytest_sparsity.cli.parser import Parser, own_options, sentence
from pytest_sparsity.core.exit_codes import ExitCode

SUMMARY = "train what sweeps and engines take: spontaneous vectors, or predictors of neurons"
_KINDS = {"vectors": train_vectors, "predictors": train_predictors}


def add_arguments(parser: Parser) -> None:
    """What to train."""
    kinds = parser.add_subparsers(dest="kind", metavar="WHAT", required=True)
    for name, module in _KINDS.items():
        own = kinds.add_parser(name, help=module.SUMMARY, description=sentence(module.SUMMARY))
        module.add_arguments(own)


def run(given: argparse.Namespace) -> ExitCode:
    """Train it."""
    with own_options("model", "weights", "dtype", "cache"):
        _KINDS[given.kind].run(given)
    return ExitCode.OK
