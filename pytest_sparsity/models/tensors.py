"""The tensors in a folder's weight files, and whether all of them are what is measured."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Collection, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_sparsity.core.errors import SparsityError, SparsityWarning
from pytest_sparsity.models.folder import weight_files
from pytest_sparsity.models.parameter_dtypes import dtype_of
from pytest_sparsity.models.upstream import gist

if TYPE_CHECKING:
    import torch

_NAMED = 3  # of what is not used


def read_tensors(folder: Path, dtype: torch.dtype, kind: type) -> dict[str, torch.Tensor]:
    """The tensors of a folder's weight files by name, floating-point ones in ``dtype``.

    What the model's class, ``kind``, keeps in float32 stays as it is.

    transformers keeps the whole file mapped while it converts, which costs its size in
    memory beside the result; here each tensor's pages go when it has been converted.

    Raises:
        ValueError: a name stands in two files, or a file holds something else.
    """
    tensors: dict[str, torch.Tensor] = {}
    early = version("transformers") < "5"
    for path in weight_files(folder):
        for name, tensor in _readable(path):
            if name in tensors:
                raise ValueError(f"the tensor {name} stands in {path.name} and in another file")
            kept = tensor.ndim < 2 and early  # before version 5 it decides by what is built
            if tensor.is_floating_point() and not kept and dtype_of(kind, name, dtype) == dtype:
                tensor = tensor.to(dtype)
            tensors[name] = tensor
    return tensors


def _readable(path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of a file; whatever its parser says of a damaged one begins with its name."""
    tensors = _tensors(path)
    while True:
        try:
            found = next(tensors)
        except StopIteration:
            return
        except ValueError:  # our own
            raise
        except Exception as error:
            raise ValueError(f"{path.name} is damaged or was cut short ({gist(error)})") from error
        yield found


def _tensors(path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    import torch
    from safetensors import safe_open

    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as stream:
            names = list(stream.keys())
        for name in names:
            with safe_open(path, framework="pt") as stream:
                tensor = stream.get_tensor(name)
            yield name, tensor
        return
    # What torch.save wrote before its format was a zip archive cannot be mapped.
    mapped = zipfile.is_zipfile(path)
    loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    if not isinstance(loaded, dict) or not all(
        isinstance(tensor, torch.Tensor) for tensor in loaded.values()
    ):
        raise ValueError(f"{path.name} holds something else than tensors by name")
    yield from loaded.items()


def check_complete(info: Mapping[str, Any]) -> None:
    """See that every parameter was read, from what transformers says of loading.

    Raises:
        ValueError: transformers would go on with random numbers in the place of one.
    """
    for each in sorted(info["mismatched_keys"]):
        if isinstance(each, str):  # some versions of transformers tell no shapes
            raise ValueError(f"the tensor {each} has another shape than its configuration asks for")
        name, found, wanted = each
        raise ValueError(
            f"the tensor {name} has shape {list(found)}, where its configuration asks for "
            f"{list(wanted)}"
        )
    if info["missing_keys"]:
        raise ValueError(f"the weights lack the tensors {sorted(info['missing_keys'])[:_NAMED]}")


def check_floating(tensors: Mapping[str, torch.Tensor], name: str) -> None:
    """See that weights are numbers to compute with, and no codes of a quantised model.

    Args:
        tensors: of a model's files, by name.
        name: what the user called the model, for the message.

    Raises:
        SparsityError: one holds integers.
    """
    for key, tensor in tensors.items():
        if key.endswith(".weight") and not tensor.is_floating_point():
            kind = str(tensor.dtype).removeprefix("torch.")
            raise SparsityError(
                f"--sparsity-model {name}: its tensor {key} is stored as {kind}, where the model "
                "computes with floating-point numbers, and its config.json has no "
                "quantization_config that says how; pass the model it was made from and compress "
                "that with --sparsity-weights"
            )


def check_all_used(
    model: Any, tensors: Mapping[str, torch.Tensor], unexpected: Collection[str]
) -> str | None:
    """Hold what a folder's files hold against the model that was made of them.

    Args:
        model: of transformers.
        tensors: of the files, by name.
        unexpected: names of those that it has no place for.

    Returns:
        What is not used, as :func:`refuse_or_warn` takes it; None if everything is.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    lost = [*unexpected, *_lost_by_tying(parameters, tensors)]
    if not lost:
        return None
    return no_place(lost, type(model))


def no_place(names: Collection[str], kind: type) -> str:
    """The sentence, without an end, of tensors that a class has no place for."""
    return (
        f"its files hold {some(names)}, for which {kind.__name__} with this config.json has "
        "no place, so that another model would be measured; mend config.json, or write the model "
        "again with save_pretrained"
    )


def _lost_by_tying(
    parameters: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor]
) -> list[str]:
    """Names in the files of parameters that are tied to another one with other values."""
    import torch

    owners: dict[int, list[str]] = {}
    for key, parameter in parameters.items():
        owners.setdefault(id(parameter), []).append(key)
    return [
        key
        for keys in owners.values()
        if len(keys) > 1
        for key in keys
        if key in tensors
        and not torch.equal(tensors[key].to(parameters[key].dtype), parameters[key].detach())
    ]


def some(names: Collection[str]) -> str:
    """The first names of many, and how many there are."""
    first = sorted(names)[:_NAMED]
    more = len(names) - len(first)
    return ", ".join(first) + (f" and {more:,} more tensors" if more else "")


def refuse_or_warn(name: str, unused: str, *, allowed: bool) -> None:
    """Say that something in a model's files is not used.

    Args:
        name: what the user called the model.
        unused: a sentence without an end.
        allowed: whether the user wants it measured without.

    Raises:
        SparsityError: it is not allowed.

    Warns:
        SparsityWarning: it is.
    """
    if not allowed:
        raise SparsityError(
            f"--sparsity-model {name}: {unused}, or measure it without them by "
            "--sparsity-allow-unused"
        )
    warnings.warn(
        f"--sparsity-model {name}: {unused}; it is measured without them, as "
        "--sparsity-allow-unused asks",
        SparsityWarning,
        stacklevel=2,
    )
