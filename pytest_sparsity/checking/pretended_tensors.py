"""Tensors on a pretended CUDA device: they lie in the CPU's memory and say that they are on a GPU.

Wrappers of GPU kernels ask ``x.is_cuda``, allocate with ``device="cuda"`` and move with
``.cuda()``.  Inside of :func:`pretending` all of this works: tensors count as being on ``cuda:0``,
but for those that their code has put on the CPU.  These are remembered, and so is what is computed
of them alone: a kernel that is started with one fails, as it does on a GPU.  No number changes: a
tensor stays in the memory where it was, moving it copies it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum, auto
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _device

#: What tensors say that they are on.
CUDA = torch.device("cuda", 0)
_CPU = torch.device("cpu")
#: Set on tensors that are not on the CUDA device in the eyes of their code.
_PLACE = "_pytest_sparsity_place"


class _Place(Enum):
    """Where a tensor is in the eyes of its code."""

    GPU = auto()
    CPU = auto()
    #: On the CPU, where a GPU reaches it.
    PINNED = auto()
    #: On the CPU, since nothing was said.
    UNSAID = auto()


_Handler = Callable[[Sequence[Any], Mapping[str, Any]], Any]


@contextmanager
def pretending() -> Iterator[None]:
    """Inside, in this thread, tensors are on the pretended CUDA device."""
    with _Pretence():
        yield


def check_reachable(arguments: Iterable[tuple[str, Any]], by: str = "Triton") -> None:
    """See that a GPU could reach the tensors that a kernel is started with, as Triton does.

    Args:
        arguments: names and values; those that are no tensors are passed over.
        by: what starts the kernel, for the message.

    Raises:
        ValueError: one is on the CPU: its code has put it there, or made it without a device.
    """
    for name, value in arguments:
        place = getattr(value, _PLACE, _Place.GPU)
        if place in (_Place.CPU, _Place.UNSAID) and value.numel():
            raise ValueError(
                f"the argument {name} cannot be accessed from {by}: it is a tensor on the CPU"
                f"{said_of(value)}"
            )


def place_of(tensor: Tensor) -> torch.device:
    """Where a result is; on the CUDA device, inside of :func:`pretending`, if nothing was said."""
    return CUDA if _place(tensor) is _Place.UNSAID else tensor.device


def said_of(tensor: Tensor) -> str:
    """For a message about a tensor that is on the CPU: how to say another place, if none was."""
    if _place(tensor) is not _Place.UNSAID:
        return ""
    return ", for it was made without a device; give device=x.device, x being an operand"


class _Pretence(TorchFunctionMode):
    """Sees every function of torch that code calls: of tensors, and those that make some."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _PLAIN:
            return func(*args, **kwargs)
        handler = _HANDLERS.get(func)
        if handler is not None:
            return handler(args, kwargs)
        if isinstance(func, torch._ops.OpOverload | torch._ops.OpOverloadPacket):
            own = _of_a_library(func)
            if own is not None:
                return self._inside(own, args, kwargs)
        return _called(func, args, kwargs)

    def _inside(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Call an op of a library with this mode on: its implementation asks for devices too.

        A mode is off while it handles a function; switched on again it would be handed the same
        one.  So what the op has for its operands is called, and not the op.
        """
        keys = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)
        graph = torch.is_grad_enabled() and any(
            tensor.requires_grad for tensor in _tensors((*args, *kwargs.values()))
        )
        if graph and torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "AutogradCPU"):
            keys = keys.add(torch._C.DispatchKey.AutogradCPU)
        with self:
            return func.redispatch(keys, *args, **kwargs)


def _of_a_library(func: Any) -> Any:
    """The overload, if it is an op of a library that has no other."""
    if isinstance(func, torch._ops.OpOverload):
        return None if func.namespace in ("aten", "prims", "prim") else func
    name = func._qualified_op_name
    overloads = func.overloads()
    if name.startswith(("aten::", "prims::", "prim::")) or len(overloads) != 1:
        return None
    return getattr(func, overloads[0])


def _called(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The result, made in the CPU's memory."""
    wanted = kwargs.get("device")
    operands = list(_tensors((*args, *kwargs.values())))
    if kwargs.get("pin_memory"):
        kwargs = {**kwargs, "pin_memory": False}
        place = _Place.PINNED
    elif wanted is not None:
        place = _asked(wanted)
    elif operands:
        places = {_place(operand) for operand in operands}
        place = places.pop() if len(places) == 1 else _Place.CPU
        if _Place.GPU in places:  # it took a number from the CPU
            place = _Place.GPU
    elif _device.CURRENT_DEVICE is not None:
        place = _asked(_device.CURRENT_DEVICE)
    else:
        place = _Place.UNSAID
    if wanted is not None or (_device.CURRENT_DEVICE is not None and not operands):
        kwargs = {**kwargs, "device": _CPU}
    result = func(*args, **kwargs)
    if place is not _Place.GPU:
        for tensor in _tensors(result if isinstance(result, tuple | list) else (result,)):
            if not any(tensor is operand for operand in operands):
                _put(tensor, place)
    return result


def _place(tensor: Tensor) -> _Place:
    found: _Place = getattr(tensor, _PLACE, _Place.GPU)
    return found


def _put(tensor: Tensor, place: _Place) -> Tensor:
    setattr(tensor, _PLACE, place)
    return tensor


def _asked(device: Any) -> _Place:
    """The place that a device is, given in any of torch's ways."""
    on_gpu = isinstance(device, int) or torch.device(device).type == "cuda"
    return _Place.GPU if on_gpu else _Place.CPU


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from (each for each in value if isinstance(each, Tensor))


def _moved(tensor: Tensor, result: Tensor, place: _Place) -> Tensor:
    """``result``, which is ``tensor`` or made of it, in a place; a copy if it is another one."""
    same_side = (_place(tensor) is _Place.GPU) == (place is _Place.GPU)
    if result is tensor:
        return tensor if same_side else _put(tensor.clone(), place)
    return _put(result, place)


def _to(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
    """``Tensor.to``: with a device, a dtype, both, or another tensor."""
    tensor, *rest = args
    kwargs = dict(kwargs)
    place = _place(tensor)
    other = rest[0] if rest and isinstance(rest[0], Tensor) else kwargs.pop("other", None)
    if other is not None:
        place = _place(other)
        rest = [other.dtype, *rest[1:]]
    elif rest and isinstance(rest[0], str | torch.device | int):
        place, rest[0] = _asked(rest[0]), _CPU
    elif kwargs.get("device") is not None:
        place, kwargs["device"] = _asked(kwargs["device"]), _CPU
    return _moved(tensor, tensor.to(*rest, **kwargs), place)


def _cpu(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
    tensor: Tensor = args[0]
    return _moved(tensor, tensor.cpu(*args[1:], **kwargs), _Place.CPU)


def _cuda(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
    layout = {name: value for name, value in kwargs.items() if name == "memory_format"}
    return _moved(args[0], args[0].cpu(**layout), _Place.GPU)


def _type(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """``Tensor.type``: the name of a type, or a conversion to one."""
    tensor, *rest = args
    if not rest and not kwargs:
        name: str = tensor.type()
        return name.replace("torch.", "torch.cuda.", 1) if _is_cuda(args, {}) else name
    to = rest[0] if rest else kwargs["dtype"]
    if isinstance(to, str) and to.startswith("torch.cuda."):
        converted = tensor.type(to.replace("torch.cuda.", "torch.", 1))
        return _moved(tensor, converted, _Place.GPU)
    return _called(Tensor.type, args, kwargs)


def _numpy(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    if _is_cuda(args, kwargs):
        raise TypeError(
            f"can't convert {CUDA} device type tensor to numpy. Use Tensor.cpu() to copy the "
            "tensor to host memory first."
        )
    return args[0].numpy(*args[1:], **kwargs)


def _set_data(args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    tensor, data = args
    tensor.data = data
    _put(tensor, _place(data))


def _as_tensor(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """``torch.as_tensor``, which takes the device by position too, and may return its argument."""
    given = dict(zip(("data", "dtype", "device"), args, strict=False)) | dict(kwargs)
    data = given.pop("data")
    if not isinstance(data, Tensor):
        return _called(torch.as_tensor, (data,), given)
    wanted = given.pop("device", None)
    result = data if given.get("dtype") is None else data.to(given["dtype"])
    return _moved(data, result, _place(data) if wanted is None else _asked(wanted))


def _load(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """``torch.load`` to wherever it may be: the file can say CUDA."""
    given = dict(zip(("f", "map_location"), args, strict=False)) | dict(kwargs)
    wanted = given.get("map_location")
    return torch.load(**given if callable(wanted) else given | {"map_location": _CPU})


def _device_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> torch.device:
    return CUDA if _is_cuda(args, kwargs) else _CPU


def _is_cuda(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    return _place(args[0]) is _Place.GPU


#: What code asks tensors for most often, and which is the same on every device.
_PLAIN = frozenset(
    {
        Tensor.shape.__get__,  # type: ignore[attr-defined]
        Tensor.dtype.__get__,  # type: ignore[attr-defined]
        Tensor.ndim.__get__,  # type: ignore[attr-defined]
        Tensor.stride,
        Tensor.size,
        Tensor.numel,
        Tensor.dim,
        Tensor.element_size,
        Tensor.data_ptr,
        Tensor.storage_offset,
        Tensor.is_contiguous,
        Tensor.is_floating_point,
    }
)

_HANDLERS: Mapping[Any, _Handler] = {
    Tensor.device.__get__: _device_of,
    Tensor.is_cuda.__get__: _is_cuda,  # type: ignore[attr-defined]
    Tensor.is_cpu.__get__: lambda args, kwargs: not _is_cuda(args, kwargs),  # type: ignore[attr-defined]
    Tensor.get_device: lambda args, kwargs: 0 if _is_cuda(args, kwargs) else -1,
    Tensor.is_pinned: lambda args, kwargs: _place(args[0]) is _Place.PINNED,
    Tensor.data.__set__: _set_data,  # type: ignore[attr-defined]
    Tensor.to: _to,
    Tensor.cpu: _cpu,
    Tensor.cuda: _cuda,
    Tensor.pin_memory: lambda args, kwargs: _put(args[0].clone(), _Place.PINNED),
    Tensor.type: _type,
    Tensor.numpy: _numpy,
    torch.as_tensor: _as_tensor,
    torch.load: _load,
}
