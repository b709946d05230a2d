"""All that a folder or file holds of what other projects made for a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.files import sha256_file, sha256_text
from pytest_sparsity.methods.given import activations, cats, deja_vu, gpu_index, powerinfer, teal
from pytest_sparsity.methods.given.reading import candidates, wrong
from pytest_sparsity.methods.given.teal import TealFiles
from pytest_sparsity.models import LanguageModel

#: What predictors are for: a neuron is computed if its score reaches a threshold, or if it is
#: among the top k of its layer.
POWERINFER, DEJA_VU = "powerinfer", "deja_vu"

_KNOWN = (
    "PowerInfer's predictors (model_0.pt ...), activity (activation/activation_0.pt ...) or GPU "
    "index (*.gpuidx), Deja Vu's predictors (c4_layer0*.pt ...), TEAL's histograms "
    "(histograms/layer-0/mlp/histograms.pt ...) and tables (lookup/layer-0/results.csv ...), or a "
    "config.json with CATS' thresholds"
)

#: What can be given, by kind, for a sentence: predictors by their rule, and the other fields of
#: :class:`Given`.
DESCRIBED = {
    POWERINFER: "PowerInfer's predictors",
    DEJA_VU: "Deja Vu's predictors",
    "hot": "a GPU index",
    "frequencies": "the activity of neurons",
    "teal": "TEAL's histograms",
    "cats": "CATS' thresholds",
}
_OTHERS = ("hot", "frequencies", "teal", "cats")


@dataclass(frozen=True, eq=False)
class GivenPredictors:
    """Which neurons of an MLP will be active, by two matrices per layer without biases.

    Attributes:
        rule: ``POWERINFER``, with ReLU between the matrices, or ``DEJA_VU``, with nothing.
        layers: layer to its matrices, [R, H] and [I, R], floating point as stored, on the CPU.
        threshold: PowerInfer's ``sparse_threshold``; None if it is not said.
    """

    rule: str
    layers: Mapping[int, tuple[torch.Tensor, torch.Tensor]]
    threshold: float | None


@dataclass(frozen=True, eq=False)
class Given:
    """What was found; None for what was not.

    Attributes:
        path: where.
        hash: hex SHA-256 over names and contents of the files that were read, 16 digits.
        predictors: of neurons.
        hot: layer to the neurons on the GPU, boolean [I].
        frequencies: layer to how often its neurons were active, float64 [I]; counts or shares.
        teal: histograms and levels.
        cats: one threshold per layer.
    """

    path: Path
    hash: str
    predictors: GivenPredictors | None = None
    hot: Mapping[int, torch.Tensor] | None = None
    frequencies: Mapping[int, torch.Tensor] | None = None
    teal: TealFiles | None = None
    cats: tuple[float, ...] | None = None

    @property
    def kinds(self) -> set[str]:
        """What was found, as methods name it that take it: predictors by their rule."""
        others = {name for name in _OTHERS if getattr(self, name) is not None}
        return others | ({self.predictors.rule} if self.predictors is not None else set())

    @property
    def described(self) -> str:
        """What was found, for a sentence."""
        return " and ".join(text for name, text in DESCRIBED.items() if name in self.kinds)


def read_given(path: Path) -> Given:
    """Read all that a folder, or one file, holds.

    Raises:
        SparsityError: it holds nothing known, or something that is known is damaged, incomplete
            or there twice.
    """
    try:
        if not path.exists():
            raise wrong(path, "does not exist", "give a folder or a file")
        return _read(path)
    except OSError as error:
        raise wrong(path, f"cannot be read ({error.strerror})", "fix its permissions") from error


def check_given(given: Given, model: LanguageModel) -> None:
    """Whether it was made for this model, as far as numbers of layers and shapes tell.

    Raises:
        SparsityError: it was not; the sentence has both numbers.
    """
    widths = {site.name: site.module.in_features for site in model.sites}
    layers = len({site.layer for site in model.sites})
    counts = {
        given.predictors.rule if given.predictors else POWERINFER: (
            len(given.predictors.layers) if given.predictors else layers
        ),
        "hot": len(given.hot) if given.hot else layers,
        "frequencies": len(given.frequencies) if given.frequencies else layers,
        "teal": given.teal.layers if given.teal else layers,
        "cats": len(given.cats) if given.cats else layers,
    }
    for name, count in counts.items():
        if count != layers:
            raise _other_model(
                given,
                f"has {DESCRIBED[name]} for {count} layers, and {model.name} has {layers}",
            )
    predictors = given.predictors.layers if given.predictors else {}
    mlp = {layer: f"{layer}.{model.into_mlp(layer)}" for layer in predictors}
    if not {*mlp.values(), *(f"{layer}.down" for layer in mlp)} <= widths.keys():
        raise _other_model(
            given, f"has predictors, and {model.name} has layers without an MLP of its own sites"
        )
    for layer, (first, _) in predictors.items():
        read, wanted = first.shape[1], widths[mlp[layer]]
        if read != wanted:
            raise _other_model(
                given,
                f"has a predictor for layer {layer} that reads {read} values, and the MLP of "
                f"{model.name} reads {wanted}",
            )
    neurons = {
        "a predictor": {layer: second.shape[0] for layer, (_, second) in predictors.items()},
        "a GPU index": {layer: len(mask) for layer, mask in (given.hot or {}).items()},
        "the activity": {layer: len(found) for layer, found in (given.frequencies or {}).items()},
    }
    for what, by_layer in neurons.items():
        for layer, count in by_layer.items():
            if count != widths[f"{layer}.down"]:
                raise _other_model(
                    given,
                    f"has {what} for layer {layer} with {count} neurons, and the MLP of "
                    f"{model.name} has {widths[f'{layer}.down']}",
                )


def _other_model(given: Given, what: str) -> SparsityError:
    return wrong(given.path, what, "give what was made for this model, or leave the option out")


def _read(path: Path) -> Given:
    config = _config(path)
    predictors, files = _predictors(path, config)
    thresholds = cats.read_thresholds(config) if config else None
    if config and thresholds is not None:
        files.append(config)
    index = _index(path)
    activity = activations.find(path)
    histograms, tables = teal.find(path)
    of_teal = [*(f for found in histograms.values() for f in found.values()), *tables.values()]
    files += [*index, *activity.values(), *of_teal]
    if not files:
        raise wrong(path, "holds nothing that is known", f"give a folder with {_KNOWN}")
    return Given(
        path=path,
        hash=_hash(path, files),
        predictors=predictors,
        hot=gpu_index.read_gpu_index(index[0]) if index else None,
        frequencies={n: activations.read_layer(f) for n, f in activity.items()} or None,
        teal=teal.read_teal(histograms, tables) if of_teal else None,
        cats=thresholds,
    )


def _predictors(path: Path, config: Path | None) -> tuple[GivenPredictors | None, list[Path]]:
    """The predictors, if there are any, and the files that they were read from."""
    ours, theirs = powerinfer.find(path), deja_vu.find(path)
    if ours and theirs:
        raise wrong(
            path,
            f"holds predictors of PowerInfer, {ours[0].name}, and of Deja Vu, {theirs[0].name}, "
            "which decide by different rules",
            "keep them in two folders, and give one",
        )
    if theirs:
        matrices = {layer: deja_vu.read_layer(file) for layer, file in theirs.items()}
        return GivenPredictors(DEJA_VU, matrices, None), [*theirs.values()]
    if not ours:
        return None, []
    matrices = {layer: powerinfer.read_layer(file) for layer, file in ours.items()}
    threshold = powerinfer.read_threshold(config) if config else None
    files = [*ours.values(), *([config] if config and threshold is not None else [])]
    return GivenPredictors(POWERINFER, matrices, threshold), files


def _index(path: Path) -> list[Path]:
    """The GPU index, if there is one: a choice of neurons, so that two contradict each other."""
    found = gpu_index.find(path)
    if len(found) > 1:
        raise wrong(
            path,
            f"holds several GPU indices, {', '.join(file.name for file in found)}",
            "give one of these files, or leave one in the folder",
        )
    return found


def _config(path: Path) -> Path | None:
    """The folder's ``config.json``, or the one file if it is JSON."""
    found = [file for file in candidates(path, "config.json") if file.suffix == ".json"]
    return found[0] if found else None


def _hash(path: Path, files: Iterable[Path]) -> str:
    """Of names below ``path``, so that a moved folder is the same, and of contents."""
    top = path if path.is_dir() else path.parent
    named = {file.relative_to(top).as_posix(): file for file in files}
    parts = [part for name in sorted(named) for part in (name, sha256_file(named[name]))]
    return sha256_text(*parts)[:16]
