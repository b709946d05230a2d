"""Kernels given as CUDA C++ source, launched by entry, grid, block and arguments."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.files import sha256_text

#: An argument of a kernel: a tensor (None: null), a number, or the bytes of a struct.
Argument = Tensor | int | float | bytes | None
#: A size in up to three dimensions.
Size = int | tuple[int, ...]

#: Limits of a launch, the same for all compute capabilities since 7.0 (CUDA C++ Programming Guide,
#: "Compute Capabilities").
MAX_THREADS = 1024
_MAX_BLOCK = (1024, 1024, 64)
_MAX_GRID = (2**31 - 1, 65535, 65535)
#: Bytes of shared memory that a block can ask for, on sm_90 and sm_100.
MAX_SHARED = 227 * 1024

_HEADERS = {".h", ".hpp", ".cuh", ".inl"}
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
_KERNEL = re.compile(r"\b__global__\b[^;{}()]*?(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\(")


@dataclass(frozen=True, repr=False)
class CudaSource:
    """CUDA C++ source of kernels, compiled when they are first launched.

    Attributes:
        text: the source.
        name: of the file, in what is said of it.
        folders: where it finds headers of its own.
        defines: macros, by name.
    """

    text: str
    name: str
    folders: tuple[str, ...]
    defines: tuple[tuple[str, str], ...]

    def __init__(
        self,
        source: str | Path,
        *,
        folders: Sequence[str | Path] = (),
        defines: Mapping[str, str | int] | None = None,
    ) -> None:
        """Take a file's text, or text as it is.

        Args:
            source: a path of a file, or the source itself.
            folders: where it finds headers, beside the file's own folder.
            defines: macros, by name.

        Raises:
            SparsityError: the file cannot be read, or there is no kernel in it.
        """
        name, text, found = "source.cu", source, [str(folder) for folder in folders]
        if isinstance(source, Path):
            try:
                text = source.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise SparsityError(f"CudaSource: {source} cannot be read: {error}") from error
            name, found = source.name, [str(source.resolve().parent), *found]
        if not isinstance(text, str) or "__global__" not in text:
            raise SparsityError(
                f"CudaSource({name if isinstance(source, Path) else source!r}): there is no "
                "__global__ function in it; give the text of CUDA C++ kernels, or a pathlib.Path "
                "of a file"
            )
        macros = tuple((macro, str(value)) for macro, value in (defines or {}).items())
        for attribute, value in (
            ("text", text), ("name", name), ("folders", tuple(found)), ("defines", macros),
        ):  # fmt: skip
            object.__setattr__(self, attribute, value)

    def __repr__(self) -> str:
        return f"CudaSource({self.name})"

    def extended(self, text: str) -> CudaSource:
        """The same source with ``text`` at its end, as instances of macros or templates."""
        found = object.__new__(CudaSource)
        for attribute in ("name", "folders", "defines"):
            object.__setattr__(found, attribute, getattr(self, attribute))
        object.__setattr__(found, "text", f"{self.text}{text}")
        return found

    def instantiating(self, entry: str) -> CudaSource:
        """The same source with an instance of a template that is launched, for nvcc."""
        if "<" not in entry:
            return self
        return self.extended(f"\nvoid* pytest_sparsity_instance() {{ return (void*)({entry}); }}\n")

    @property
    def fingerprint(self) -> str:
        """A hash of the text and of all headers in its folders."""
        headers = (
            path.read_text(encoding="utf-8", errors="replace")
            for folder in self.folders
            for path in sorted(Path(folder).glob("*"))
            if path.suffix in _HEADERS
        )
        return sha256_text(self.text, str(self.defines), *headers)

    @property
    def kernels(self) -> tuple[str, ...]:
        """Names of the kernels that stand in the text, without those that macros make."""
        return tuple(dict.fromkeys(_KERNEL.findall(_COMMENT.sub(" ", self.text))))

    def launch(
        self,
        entry: str,
        grid: Size,
        block: Size,
        arguments: Sequence[Argument],
        *,
        shared: int = 0,
    ) -> None:
        """Launch a kernel on torch's current stream, on the device where its tensors are.

        In a check on a machine without a device it is emulated instead.

        Args:
            entry: its name, or for a template an instance, as ``"kernel<float, 4>"``.
            grid: blocks, in up to three dimensions.
            block: threads of each.
            arguments: one for each parameter: a tensor stands for the address of its first
                element, None for null; bytes are a struct.
            shared: bytes of dynamic shared memory.

        Raises:
            SparsityError: the launch is not possible, or the source does not compile.
            ValueError: a tensor is not on a CUDA device.
        """
        wanted = Launch(
            self, entry, _size("grid", grid, _MAX_GRID), _size("block", block, _MAX_BLOCK),
            tuple(arguments), shared,
        )  # fmt: skip
        threads = wanted.block[0] * wanted.block[1] * wanted.block[2]
        if threads > MAX_THREADS:
            raise SparsityError(
                f"{entry}: block={block} has {threads} threads, and at most {MAX_THREADS} are "
                "possible"
            )
        if not 0 <= shared <= MAX_SHARED:
            raise SparsityError(
                f"{entry}: shared={shared}: give 0 to {MAX_SHARED} bytes of shared memory"
            )
        if _instead:
            _instead[-1](wanted)
            return
        from pytest_sparsity.kernels.cuda import device

        for argument in wanted.arguments:
            if isinstance(argument, Tensor):
                check_place(argument, entry)
        device.launch(wanted)


@dataclass(frozen=True, eq=False)
class Launch:
    """One launch of a kernel, within the limits of a GPU."""

    source: CudaSource
    entry: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    arguments: tuple[Argument, ...]
    shared: int


#: What takes launches instead of a device; the last one does.
_instead: list[Callable[[Launch], None]] = []


@contextmanager
def instead(take: Callable[[Launch], None]) -> Iterator[None]:
    """Inside, ``take`` is called in place of launches on a device."""
    _instead.append(take)
    try:
        yield
    finally:
        _instead.remove(take)


def check_place(tensor: Tensor, kernel: str) -> None:
    """Raise ValueError unless kernels can reach ``tensor``: on a device, or in an emulation."""
    if tensor.device.type != "cuda" and not _instead:
        raise ValueError(f"{kernel}: x must be on a CUDA device, not on {tensor.device}")


def _size(what: str, given: Size, most: tuple[int, int, int]) -> tuple[int, int, int]:
    sizes = (given,) if isinstance(given, int) else tuple(given)
    if not 1 <= len(sizes) <= 3 or not all(isinstance(size, int) for size in sizes):
        raise SparsityError(f"{what}={given!r}: give one to three whole numbers")
    for size, limit in zip(sizes, most, strict=False):
        if not 1 <= size <= limit:
            raise SparsityError(f"{what}={given!r}: give 1 to {limit} where {size} is")
    return (*sizes, 1, 1)[:3]  # type: ignore[return-value]
