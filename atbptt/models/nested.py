"""Tensors, alone or in tuples, lists and dicts: what models read, return and hand on."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Nested = Any  # a tensor, or a tuple, list or dict of such


def map_tensors(function: Callable[..., Any], nested: Nested, *others: Nested) -> Any:
    """The same structure with `function` applied to each tensor, and to those at its place in others.

    Raises:
        TypeError: a part is not a tensor.
    """
    if isinstance(nested, Tensor):
        return function(nested, *others)
    if isinstance(nested, dict):  # which two may have in another order
        return {key: map_tensors(function, part, *(other[key] for other in others)) for key, part in nested.items()}
    if isinstance(nested, tuple | list):
        parts = (map_tensors(function, *each) for each in zip(nested, *others, strict=True))
        return type(nested)(*parts) if hasattr(nested, "_fields") else type(nested)(parts)
    raise TypeError(f"(={type(nested).__name__}) must be a tensor, or a tuple, list or dict of tensors")


def ordered_as(like: Nested, nested: Nested) -> Nested:
    """The same, with the tensors of dicts in the order in which `like` has them (KeyError if it lacks one)."""
    return map_tensors(lambda _, part: part, like, nested)


def tensors(nested: Nested) -> list[Tensor]:
    """The tensors, in a fixed order (TypeError if a part is not one)."""
    if isinstance(nested, Tensor):
        return [nested]
    found: list[Tensor] = []
    map_tensors(found.append, nested)
    return found


def axes(nested: Nested) -> tuple[int, ...]:
    """The first two axes of tensors (T, B, ...) that have them alike."""
    return tuple(tensors(nested)[0].shape[:2])


def at(nested: Nested, index: Any) -> Nested:
    """`tensor[index]` of each."""
    return nested[index] if isinstance(nested, Tensor) else map_tensors(lambda part: part[index], nested)


def joined(pieces: Sequence[Nested], dim: int = 0) -> Nested:
    """Pieces of the same structure, one after another."""
    if len(pieces) == 1:
        return pieces[0]
    return map_tensors(lambda *parts: torch.cat(parts, dim=dim), *pieces)


def kinds(nested: Nested, axis: int = 0) -> Any:
    """The shape from an axis on, and the type, of each."""
    return map_tensors(lambda part: (tuple(part.shape)[axis:], part.dtype), nested)
