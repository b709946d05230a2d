"""PowerInfer's choice of neurons for the GPU: ``MODEL.gguf.generated.gpuidx``.

GGUF of version 3, little-endian, with other first bytes.  The ``gguf`` package reads neither these
nor the number that int32 had when the engine was made, hence the small reader here.  Source:
``powerinfer-py/powerinfer/export_split.py``, ``gguf-py/gguf/gguf_writer.py``,
``gguf_init_from_file`` in ``ggml.c`` and ``llama_gpu_split_loader`` in ``llama.cpp`` of
SJTU-IPADS/PowerInfer.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch

from pytest_sparsity.core.files import atomic_write
from pytest_sparsity.methods.given.reading import candidates, wrong
from pytest_sparsity.models.powerinfer_keys import MAGIC

#: The engine takes the first bytes of GGUF itself as well.
_MAGICS = (MAGIC, b"GGUF")

_VERSION = 3
_ARCHITECTURE = "generic.gpu_index"
_BLOCK_COUNT = f"{_ARCHITECTURE}.block_count"
_CAPACITY = "split.vram_capacity"
_ALIGNMENT = 32

#: int32 as the engine numbers it, and as GGUF does today.
_INT32 = 18
_INT32_TODAY = 26

#: Bytes of GGUF's types of values, strings and arrays aside.
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_UINT32, _STRING, _ARRAY, _UINT64 = 4, 8, 9, 10
_UNSIGNED = (0, 2, _UINT32, _UINT64)


class _Damaged(Exception):
    """The file is not laid out as it should be; the message says how."""


@dataclass(frozen=True)
class _Info:
    """Where a tensor is: its name, shape and type as in the file, and its place in the data."""

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int


class _Stream:
    """Numbers and strings from a file that may end at any byte."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._size = stream, size

    @property
    def place(self) -> int:
        return self._stream.tell()

    def seek(self, place: int) -> None:
        # Asked before anything is read: a damaged length must not become a request for memory.
        if place > self._size:
            raise _Damaged(f"ends after {self._size} bytes, before it is complete")
        self._stream.seek(place)

    def take(self, count: int) -> bytes:
        place = self.place
        self.seek(place + count)
        self._stream.seek(place)
        return self._stream.read(count)

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def string(self) -> str:
        return self.take(self.number(8)).decode("utf-8", "replace")

    def value(self) -> int | str | None:
        """A typed value; None for what nobody asks for: signed numbers, fractions, arrays."""
        kind = self.number(4)
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            kind, count = self.number(4), self.number(8)
            if kind == _STRING:
                for _ in range(count):
                    self.string()
            else:
                self.seek(self.place + count * _size(kind))
            return None
        found = self.number(_size(kind))
        return found if kind in _UNSIGNED else None


def find(path: Path) -> list[Path]:
    """The files of a folder, or one file that is named or begins like one."""
    files = candidates(path, "*.gpuidx")
    if not path.is_dir() and path.suffix != ".gpuidx":
        with path.open("rb") as stream:
            return files if stream.read(len(MAGIC)) in _MAGICS else []
    return files


def read_gpu_index(path: Path) -> dict[int, torch.Tensor]:
    """Layer to the neurons that are on the GPU, boolean [I].

    They are taken as they stand, as the engine does.  ``export_split.py`` sorts the statistics as
    text, so that in its files layer 2 of more than ten has the neurons of layer 10.

    Raises:
        SparsityError: it is another or a damaged file.
    """
    try:
        with path.open("rb") as file:
            stream = _Stream(file, path.stat().st_size)
            values, infos = _header(stream)
            if (found := values.get("general.architecture")) != _ARCHITECTURE:
                raise wrong(
                    path,
                    f"is of the architecture {found!r} and not {_ARCHITECTURE!r}",
                    "give the file *.generated.gpuidx that PowerInfer writes next to the model",
                )
            start = _aligned(stream.place, values.get("general.alignment", _ALIGNMENT))
            return _layers(stream, start, infos, values.get(_BLOCK_COUNT))
    except OSError as error:
        raise wrong(path, f"cannot be read ({error.strerror})", "fix its permissions") from error
    except _Damaged as error:
        raise wrong(
            path, str(error), "give a file *.gpuidx of PowerInfer, or copy this one again"
        ) from error


def write_gpu_index(path: Path, hot: Mapping[int, torch.Tensor], vram_capacity: int) -> None:
    """Write what PowerInfer's engine takes as its split.

    Args:
        path: by the engine's rule the name of the model's file with ``.generated.gpuidx`` added.
        hot: layer, from 0 without gaps, to the neurons on the GPU, boolean [I].
        vram_capacity: bytes for which they were chosen; with less the engine refuses the file.

    Raises:
        ValueError: the layers are not like that.
        SparsityError: the file cannot be written.
    """
    if sorted(hot) != list(range(len(hot))):
        raise ValueError(f"layers must be counted from 0 without gaps, not {sorted(hot)}")
    infos, data = b"", b""
    # The engine takes them by their places: the index of layer i is tensor 2i, its bucket 2i + 1.
    for layer in range(len(hot)):
        mask = hot[layer]
        if mask.ndim != 1 or mask.dtype is not torch.bool:
            raise ValueError(
                f"layer {layer}: boolean [I] is needed, not {list(mask.shape)} {mask.dtype}"
            )
        for name, tensor in (("gpu_idx", mask), ("gpu_bucket", mask.nonzero().flatten())):
            numbers = tensor.tolist()
            infos += _text(f"blk.{layer}.{name}") + struct.pack(
                "<IQIQ", 1, len(numbers), _INT32, len(data)
            )
            data += struct.pack(f"<{len(numbers)}i", *numbers)
            data += bytes(-len(data) % _ALIGNMENT)
    header = (
        struct.pack("<4sIQQ", MAGIC, _VERSION, 2 * len(hot), 3)
        + (_text("general.architecture") + struct.pack("<I", _STRING) + _text(_ARCHITECTURE))
        + (_text(_BLOCK_COUNT) + struct.pack("<II", _UINT32, len(hot)))
        + (_text(_CAPACITY) + struct.pack("<IQ", _UINT64, vram_capacity))
        + infos
    )
    atomic_write(path, header + bytes(-len(header) % _ALIGNMENT) + data)


def _header(stream: _Stream) -> tuple[dict[str, int | str | None], list[_Info]]:
    """Keys with their values, and where the tensors are."""
    if (magic := stream.take(4)) not in _MAGICS:
        raise _Damaged(f"begins with {magic!r} and not with {MAGIC!r}")
    if (version := stream.number(4)) != _VERSION:
        raise _Damaged(f"is of version {version} and not {_VERSION}")
    tensors, keys = stream.number(8), stream.number(8)
    values: dict[str, int | str | None] = {}
    for _ in range(keys):
        key = stream.string()
        values[key] = stream.value()
    infos = []
    for _ in range(tensors):
        name = stream.string()
        shape = tuple(stream.number(8) for _ in range(stream.number(4)))
        infos.append(_Info(name, shape, stream.number(4), stream.number(8)))
    return values, infos


def _layers(
    stream: _Stream, start: int, infos: list[_Info], said: int | str | None
) -> dict[int, torch.Tensor]:
    """The masks of all layers, which agree with the buckets and with the number that is said."""
    count = (len(infos) + 1) // 2
    if not count or said not in (None, count):
        raise _Damaged(f"says that it has {said} layers and has {count}")
    expected = [f"blk.{n}.{name}" for n in range(count) for name in ("gpu_idx", "gpu_bucket")]
    for place, name in enumerate(expected):
        found = infos[place].name if place < len(infos) else "nothing"
        if found != name:
            raise _Damaged(f"has {found} where {name} must be, at place {place}")
    masks = {}
    for layer in range(count):
        index, bucket = (_numbers(stream, start, infos[2 * layer + n]) for n in (0, 1))
        if not len(index) or bool(((index != 0) & (index != 1)).any()):
            raise _Damaged(f"has values besides 0 and 1 in blk.{layer}.gpu_idx, or none")
        masks[layer] = index == 1
        if not torch.equal(masks[layer].nonzero().flatten(), bucket):
            raise _Damaged(f"names other neurons in blk.{layer}.gpu_bucket than in its gpu_idx")
    return masks


def _numbers(stream: _Stream, start: int, info: _Info) -> torch.Tensor:
    """The values of a tensor, int64 [n]."""
    if info.type not in (_INT32, _INT32_TODAY) or len(info.shape) != 1:
        raise _Damaged(
            f"has {info.name} of the type {info.type} and shape {list(info.shape)}, and int32, "
            f"{_INT32} or {_INT32_TODAY}, with one axis is needed"
        )
    stream.seek(start + info.offset)
    data = stream.take(4 * info.shape[0])
    return torch.tensor(struct.unpack(f"<{info.shape[0]}i", data), dtype=torch.int64)


def _aligned(place: int, alignment: int | str | None) -> int:
    """The next place that is a multiple of ``alignment``."""
    if not isinstance(alignment, int) or alignment < 1:
        raise _Damaged(f"has the alignment {alignment!r}")
    return place + -place % alignment


def _size(kind: int) -> int:
    if kind not in _SIZES:
        raise _Damaged(f"has a value of the unknown type {kind}")
    return _SIZES[kind]


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data
