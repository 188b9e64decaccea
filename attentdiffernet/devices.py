"""Where tensors are computed, and copies to and from there that nobody waits for.

What runs where is said when a command runs and kept nowhere: a checkpoint is the same from any device.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch
from torch import Tensor

from .errors import AttentDifferNetError

Work = TypeVar("Work")


def find_device(name: str | torch.device) -> torch.device:
    """`cpu`, `cuda`, `cuda:1`, `mps`..., or `auto`: a GPU where there is one. Raises AttentDifferNetError for a device
    that is not here."""
    gpu = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if name == "auto":
        return gpu or torch.device("cpu")
    here = ["cpu", *(f"{gpu.type}:{k}" for k in range(torch.accelerator.device_count()) if gpu)]
    if str(name) not in here and (gpu is None or str(name) != gpu.type):
        raise AttentDifferNetError(f"There is no device {name} here; there is {', '.join(here)}")
    return torch.device(name)


def pinned(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor, for a CUDA device in memory from which it is copied while the CPU goes on."""
    return tensor.pin_memory() if device.type == "cuda" and tensor.is_cpu else tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device, which no other work waits for; only CUDA is trusted with that."""
    return pinned(tensor, device).to(device, non_blocking=device.type == "cuda")


def read_behind(launched: Iterable[tuple[Tensor, Work]], behind: bool) -> Iterator[tuple[Tensor, Work]]:
    """Each tensor on the CPU, with what came along, in order. behind: it is read after the next one has been launched,
    so that the device has work while the CPU waits for the result and uses it."""
    waiting: list[tuple[Callable[[], Tensor], Work]] = []
    for tensor, work in launched:
        waiting.append((_copied(tensor), work))
        if len(waiting) > behind:
            copy, came_along = waiting.pop(0)
            yield copy(), came_along
    for copy, came_along in waiting:
        yield copy(), came_along


def _copied(tensor: Tensor) -> Callable[[], Tensor]:
    """What gives the tensor on the CPU. From CUDA the copy is under way at once, so that it waits for nothing that is
    launched later; from other devices it is made when asked for."""
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
