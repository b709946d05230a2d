"""PowerInfer's GGUF files: a model whose neurons are predicted, and the predictors.

A file is GGUF, version 3, with the magic ``PWRI``.  Its layers have two tensors more than
llama.cpp's: ``fc1`` [R, H] and ``fc2`` [I, R] of the predictor fc2 relu(fc1 v), v the residual
stream before the MLP's norm; and ``ffn_down_t`` [I, H], down transposed.  No key says which
activation is computed: the engine fixes it by architecture, as :mod:`.powerinfer_layout` does.

Read is what the file holds; what is written beside the converted weights is
``predictors.safetensors``, in the format of :func:`pytest_sparsity.core.tensor_file.write_tensors`.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.files import atomic_write
from pytest_sparsity.core.progress import Phase
from pytest_sparsity.core.tensor_file import write_tensors
from pytest_sparsity.models.folder import PREDICTORS
from pytest_sparsity.models.powerinfer_keys import MAGIC, PREDICTORS_FORMAT
from pytest_sparsity.models.powerinfer_layout import ARCHITECTURES, Layout, Weight, layout_of
from pytest_sparsity.models.tokens import obey_gguf
from pytest_sparsity.models.upstream import failures_as, quiet

if TYPE_CHECKING:
    import torch

#: How far into a file the names of its tensors are looked for; they stand before the data.
_HEADER = 1 << 27
_FIRST = "blk.0.fc1.weight"

#: Types of tensors that the engine has, and that mean the same today: from id 16 on, ids were
#: given anew.  Without the two that hold no weights (Q8_1, Q8_K).
_TYPES = (
    *("F32", "F16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"),
    *("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"),
)


@dataclass(frozen=True)
class PowerInferFile:
    """An opened file whose tensors are all there, of known types and of the right shapes.

    Attributes:
        path: of the file.
        keys: its metadata, plain values; without those of the tokenizer's arrays.
        tensors: by name, as the ``gguf`` package reads them.
        layout: configuration, names and shapes.
        reader: of the ``gguf`` package.
    """

    path: Path
    keys: Mapping[str, Any]
    tensors: Mapping[str, Any]
    layout: Layout
    reader: Any

    def tensor(self, weight: Weight) -> torch.Tensor:
        """What a stored tensor stands for, in float32, as transformers has it."""
        import gguf
        import numpy as np
        import torch

        stored = self.tensors[weight.name]
        values = gguf.quants.dequantize(stored.data, stored.tensor_type)
        found = torch.from_numpy(np.array(values, dtype=np.float32))
        return weight.turn(found).contiguous()


def open_powerinfer(path: Path) -> PowerInferFile | None:
    """The file if it is PowerInfer's, by its content and not by its name; None if it is not.

    Raises:
        SparsityError: it is one, and is cut short, of an architecture that the engine does not
            have, or its tensors are not those of its architecture.
    """
    with path.open("rb") as stream:
        magic = stream.read(4)
        if magic != MAGIC and (magic != b"GGUF" or not _may_have_predictors(stream.fileno())):
            return None
    where = f"--sparsity-model {path.name}"
    advice = "download or convert it again"
    with failures_as(f"{where} is a GGUF file of PowerInfer that cannot be read", advice):
        reader = _reader(path)
        tensors = {str(tensor.name): tensor for tensor in reader.tensors}
        if magic != MAGIC and _FIRST not in tensors:
            return None
        keys = {key: _plain(field) for key, field in reader.fields.items()}
    if (architecture := keys.get("general.architecture")) not in ARCHITECTURES:
        raise SparsityError(
            f"{where} is a GGUF file of PowerInfer of architecture {architecture!r}, and its "
            f"engine runs {', '.join(ARCHITECTURES)}; pass a file of one of these"
        )
    layout = layout_of(keys, set(tensors), where)
    _check(layout, tensors, where)
    return PowerInferFile(path, keys, tensors, layout, reader)


def convert_powerinfer(file: PowerInferFile, folder: Path, task: Phase) -> None:
    """Write model, tokenizer and predictors of ``file`` to ``folder``, in float32.

    The task is told three of the four steps of a conversion.

    Raises:
        SparsityError: the tokenizer cannot be read.
        OSError: ``folder`` cannot be written.
    """
    import torch
    from safetensors.torch import save_file

    advice = "pass a file of a model whose tokenizer this version of transformers can read"
    with quiet(), failures_as(f"{file.path.name} cannot be converted", advice):
        tokenizer = _tokenizer(file, folder)
        tokenizer.save_pretrained(folder)
    task.advance(note="tokenizer")
    layout = file.layout
    weights = {name: file.tensor(weight) for name, weight in layout.weights.items()}
    settings = dict(layout.settings)
    if layout.head is not None:
        head = weights[layout.head]
        # The engine's loader wants both, so tied ones are stored twice.
        settings["tie_word_embeddings"] = torch.equal(head, weights[layout.embedding])
        if settings["tie_word_embeddings"]:
            del weights[layout.head]
    task.advance(note="weights")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    atomic_write(folder / "config.json", json.dumps(settings, indent=1) + "\n")
    threshold = file.keys.get("powerinfer.sparse_threshold")
    provenance = {
        "rule": "powerinfer",
        "reads": "residual",
        "between": "relu",
        "threshold": None if threshold is None else float(threshold),
        "source": file.path.name,
    }
    predictors = {name: file.tensor(weight) for name, weight in layout.predictors.items()}
    write_tensors(folder / PREDICTORS, PREDICTORS_FORMAT, predictors, provenance)
    task.advance(note="saved")


def _may_have_predictors(descriptor: int) -> bool:
    """Whether the name of a predictor stands anywhere in the file's head: quick, not certain."""
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as content:
        return content.find(_FIRST.encode(), 0, _HEADER) >= 0


def _reader(path: Path) -> Any:
    """``gguf``'s reader, which knows one magic only and reads on behind the end of a file."""
    import gguf
    import numpy as np

    class Reader(gguf.GGUFReader):
        def _get(self, offset: Any, dtype: Any, count: Any = 1, *args: Any, **kwargs: Any) -> Any:
            end = int(offset) + np.dtype(dtype).itemsize * int(count)
            if end > len(self.data):
                raise ValueError(f"it is cut short, at {len(self.data)} bytes of at least {end}")
            if int(offset) == 0 and bytes(self.data[:4]) == MAGIC:
                return np.array([gguf.GGUF_MAGIC], dtype="<u4")
            return super()._get(offset, dtype, count, *args, **kwargs)

        def _get_tensor_info_field(self, orig_offs: int) -> Any:
            field = super()._get_tensor_info_field(orig_offs)
            number = int(field.parts[4][0])
            if number not in list(gguf.GGMLQuantizationType):
                raise ValueError(f"its tensor {field.name} has the type {number}, which is none")
            return field

    return Reader(path)


def _plain(field: Any) -> Any:
    """The value of a scalar or a string; of an array its length."""
    if len(field.data) != 1 or len(field.types) > 1:
        return len(field.data)
    part = field.parts[field.data[0]]
    return (
        bytes(part).decode() if field.types and field.types[0].name == "STRING" else part[0].item()
    )


def _check(layout: Layout, tensors: Mapping[str, Any], where: str) -> None:
    wanted = {w.name: w for w in (*layout.weights.values(), *layout.predictors.values())}
    for weight in wanted.values():
        if (stored := tensors.get(weight.name)) is None:
            raise SparsityError(
                f"{where} has no tensor {weight.name}, which every file of architecture "
                f"{layout.architecture} has; convert the model again, with a predictor for every "
                "layer"
            )
        found = tuple(int(size) for size in reversed(stored.shape))
        if len(found) != len(weight.shape) or any(
            want not in (None, size) for want, size in zip(weight.shape, found, strict=True)
        ):
            shape = ["R" if size is None else size for size in weight.shape]
            raise SparsityError(
                f"{where} has the tensor {weight.name} of shape {list(found)}, and its keys and "
                f"other tensors say {shape}; convert the model again"
            )
        if stored.tensor_type.name not in _TYPES:
            raise SparsityError(
                f"{where} has the tensor {weight.name} of type {int(stored.tensor_type)}, which "
                f"PowerInfer's engine reads no weights from; convert it to {', '.join(_TYPES)}"
            )
    for layer in range(layout.layers):
        first, second = (tensors[f"blk.{layer}.fc{n}.weight"].shape for n in (1, 2))
        if first[1] != second[0]:
            raise SparsityError(
                f"{where} has a predictor in layer {layer} whose fc1 gives {first[1]} numbers and "
                f"whose fc2 reads {second[0]}; convert the model again, with predictors of its own"
            )
    if strange := sorted(set(tensors) - set(wanted) - layout.ignored):
        raise SparsityError(
            f"{where} has the tensor {strange[0]}, which PowerInfer's engine does not compute with "
            f"in architecture {layout.architecture}; convert a model that has none"
        )


def _tokenizer(file: PowerInferFile, folder: Path) -> Any:
    """The tokenizer of ``file``, from a GGUF file in ``folder``, which is deleted, of its keys."""
    import transformers
    from tokenizers import Tokenizer

    if isinstance(text := file.keys.get("tokenizer.huggingface.json"), str):
        # The whole tokenizer, where the writer had one; the other keys leave its rules open.
        tokenizer: Any = transformers.PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
            tokenizer_object=Tokenizer.from_str(text), clean_up_tokenization_spaces=False
        )
        for name in ("bos", "eos", "unknown", "padding"):
            if (number := file.keys.get(f"tokenizer.ggml.{name}_token_id")) is not None:
                short = {"unknown": "unk", "padding": "pad"}.get(name, name)
                setattr(tokenizer, f"{short}_token", tokenizer.convert_ids_to_tokens(int(number)))
        return tokenizer
    path = folder / "tokenizer.gguf"
    path.write_bytes(_keys_only(file))
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            folder, gguf_file=path.name, local_files_only=True
        )
        obey_gguf(tokenizer, path)
    finally:
        path.unlink()
    return tokenizer


def _keys_only(file: PowerInferFile) -> bytes:
    """A GGUF file without tensors, with the keys of a tokenizer as they are stored."""

    def text(value: str) -> bytes:
        return len(value.encode()).to_bytes(8, "little") + value.encode()

    string, boolean = (8).to_bytes(4, "little"), (7).to_bytes(4, "little")
    fields = [
        b"".join(part.tobytes() for part in field.parts)
        for key, field in file.reader.fields.items()
        if key.startswith("tokenizer.")
    ]
    fields.append(text("general.architecture") + string + text(file.layout.tokenizer))
    if "tokenizer.ggml.add_bos_token" not in file.keys:
        # The engine puts BOS before a text if the vocabulary is SentencePiece's, else not.
        adds = file.keys.get("tokenizer.ggml.model") == "llama"
        fields.append(text("tokenizer.ggml.add_bos_token") + boolean + bytes([adds]))
    head = b"GGUF" + (3).to_bytes(4, "little") + (0).to_bytes(8, "little")
    return head + len(fields).to_bytes(8, "little") + b"".join(fields)
