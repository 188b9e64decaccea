"""The tensors of a model as a checkpoint stores them: attention blocks, whitening and flow, in half precision.

A detector is rounded to half precision before its threshold is set, so a reloaded one gives the same scores.
"""

import torch
from torch import Tensor

from .errors import CheckpointError
from .model import AttentDifferNet


def packed(model: AttentDifferNet) -> dict[str, Tensor]:
    """By name, on the CPU: floats in half precision, permutations as 16-bit integers."""
    state = {f"flow.{key}": value for key, value in model.flow.state_dict().items()}
    if model.whitening is not None:
        state["whitening.mean"] = model.whitening.mean
        state["whitening.factor"] = model.whitening.factor.cpu()[_triangle(model)]  # the rest is 0
    for name, block in model.backbone.attention_blocks().items():
        state |= {f"{name}.{key}": value for key, value in block.state_dict().items()}
    return {
        key: value.detach().cpu().to(torch.float16 if value.is_floating_point() else torch.int16).contiguous()
        for key, value in state.items()
    }


def round_as_stored(model: AttentDifferNet) -> AttentDifferNet:
    """The model with the weights that a reloaded checkpoint would have, in place and on its device. Raises
    CheckpointError where a weight is not finite in half precision."""
    parts = [model.flow, *model.backbone.attention_blocks().values()]
    parts += [] if model.whitening is None else [model.whitening]
    stored = [value for part in parts for value in part.state_dict().values() if value.is_floating_point()]
    for value in stored:
        value.copy_(value.half())
    if not bool(torch.stack([value.isfinite().all() for value in stored]).all()):
        raise CheckpointError("The model holds weights that are not finite numbers in half precision")
    if model.whitening is not None and not bool((model.whitening.factor.diagonal() > 0).all()):
        raise CheckpointError("The whitening is singular in half precision")
    return model


def unpack(model: AttentDifferNet, tensors: dict[str, Tensor], origin: str) -> None:
    """Copies tensors of `packed` into a model of the same kind. Raises CheckpointError for tensors that are missing,
    unknown, of another shape or type, not finite, or no permutation where one is needed. origin: named in errors."""
    _check(model, tensors, origin)
    if model.whitening is not None:
        model.whitening.mean.copy_(tensors["whitening.mean"])
        model.whitening.factor.zero_()[_triangle(model)] = tensors["whitening.factor"].to(model.whitening.factor)
    model.flow.load_state_dict(_below("flow.", tensors))
    for name, block in model.backbone.attention_blocks().items():
        block.load_state_dict(_below(f"{name}.", tensors))


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _check(model: AttentDifferNet, tensors: dict[str, Tensor], origin: str) -> None:
    wanted = packed(model)
    if missing := sorted(set(wanted) - set(tensors)):
        raise CheckpointError(f"{origin} lacks {missing[0]} and {len(missing) - 1} more tensors of this model")
    if unknown := sorted(set(tensors) - set(wanted)):
        raise CheckpointError(f"{origin} holds {unknown[0]}, which this model does not have")
    for key, tensor in tensors.items():
        if tensor.shape != wanted[key].shape:
            raise CheckpointError(f"{origin}: {key} has shape {tuple(tensor.shape)}, not {tuple(wanted[key].shape)}")
        if tensor.dtype != wanted[key].dtype:
            raise CheckpointError(f"{origin}: {key} has type {tensor.dtype}, not {wanted[key].dtype}")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{origin}: {key} holds values that are not finite numbers")
        if not tensor.is_floating_point() and not tensor.sort().values.equal(wanted[key].sort().values):
            raise CheckpointError(f"{origin}: {key} is not a permutation")
    if model.whitening is not None:
        rows, columns = _triangle(model)
        if not bool((tensors["whitening.factor"][rows == columns] > 0).all()):
            raise CheckpointError(f"{origin}: whitening.factor is not the inverse of a Cholesky factor")


def _triangle(model: AttentDifferNet) -> tuple[Tensor, Tensor]:
    """Rows and columns of the lower triangle of the whitening's factor."""
    rows, columns = torch.tril_indices(model.n_features, model.n_features)
    return rows, columns
