"""Trains the spontaneous vectors that are shipped with the package.

    python ci/train_vectors.py --model smollm2-135m --levels 0.25,0.4,0.5

Text, thresholds and recipe are the defaults of the options, so what is shipped is what
``pytest --sparsity-sweep --sparsity-train all`` trains on the same machine.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import replace

from pytest_sparsity.options import default_settings
from pytest_sparsity.progress import on_stream
from pytest_sparsity.spon.library import SHIPPED, file_name
from pytest_sparsity.spon.vectors import SpontaneousVectors
from pytest_sparsity.sweep.bench import Bench
from pytest_sparsity.sweep.cell import TRAINED, Configuration


def main() -> None:
    """Train and write one file per level."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m", help="known name of the model")
    parser.add_argument("--levels", default="0.25,0.4,0.5", help="comma-separated levels")
    given = parser.parse_args()
    levels = tuple(float(level) for level in given.levels.split(","))
    settings = replace(default_settings(), models=(given.model,), levels=levels, train="all")
    bench = Bench(settings, on_stream(sys.stderr))
    command = shlex.join(["python", *sys.argv])
    for level in sorted(levels, reverse=True):
        trained = bench.vectors(Configuration(given.model, "teal", level, TRAINED))
        shipped = SpontaneousVectors(trained.a, {**trained.provenance, "command": command})
        path = SHIPPED / file_name(given.model, "teal", level)
        shipped.save(path)
        best = min(loss for _, loss in shipped.provenance["held_out_loss"])
        print(f"{path}: held-out KL {best}")


if __name__ == "__main__":
    main()
