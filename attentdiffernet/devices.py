"""Devices: finding one, and copying to and from it without waiting.

The device is chosen when a command runs and is stored nowhere: a checkpoint is the same from any device.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch
from torch import Tensor

from .errors import AttentDifferNetError

Work = TypeVar("Work")


def find_device(name: str | torch.device) -> torch.device:
    """`cpu`, `cuda`, `cuda:1`, `mps`..., or `auto`: a GPU if there is one. Raises AttentDifferNetError for a device
    that this machine lacks."""
    gpu = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if name == "auto":
        return gpu or torch.device("cpu")
    here = ["cpu", *(f"{gpu.type}:{k}" for k in range(torch.accelerator.device_count()) if gpu)]
    if str(name) not in here and (gpu is None or str(name) != gpu.type):
        raise AttentDifferNetError(f"There is no device {name} here; there is {', '.join(here)}")
    return torch.device(name)


def pinned(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor; for a CUDA device in pinned memory, from which it can be copied while the CPU continues."""
    return tensor.pin_memory() if device.type == "cuda" and tensor.is_cpu else tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device. On CUDA the copy is asynchronous."""
    return pinned(tensor, device).to(device, non_blocking=device.type == "cuda")


def read_behind(launched: Iterable[tuple[Tensor, Work]], behind: bool) -> Iterator[tuple[Tensor, Work]]:
    """Each tensor on the CPU with the work it came with, in order. behind: a tensor is read after the next one has been
    launched, so that the device has work while the CPU waits for a result and uses it."""
    waiting: list[tuple[Callable[[], Tensor], Work]] = []
    for tensor, work in launched:
        waiting.append((_copied(tensor), work))
        if len(waiting) > behind:
            copy, came_along = waiting.pop(0)
            yield copy(), came_along
    for copy, came_along in waiting:
        yield copy(), came_along


def _copied(tensor: Tensor) -> Callable[[], Tensor]:
    """A function that returns the tensor on the CPU. From CUDA the copy starts at once and so does not wait for work
    launched later; from other devices it is made when the function is called."""
    if not tensor.is_cuda:
        return tensor.cpu
    copy = tensor.to("cpu", non_blocking=True)  # into pinned memory
    arrived = torch.cuda.current_stream(tensor.device).record_event()

    def wait() -> Tensor:
        arrived.synchronize()
        return copy

    return wait


def in_float32(device: torch.device) -> AbstractContextManager[object]:
    """Within it, convolutions of float32 and their gradients stay float32. On CUDA they would round to TF32 by default,
    which changes Grad-CAM by some percent."""
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False) if device.type == "cuda" else nullcontext()
