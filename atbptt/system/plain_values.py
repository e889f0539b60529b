"""What a checkpoint may hold: tensors and plain values, which are read without running code."""

import sys
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from atbptt.errors import show

PLAIN = (bool, int, float, str, bytes)


def plain(value: Any, name: str = "") -> Any:
    """The value in tensors, numbers, texts, bytes, null, lists, tuples and dicts.

    Subclasses become what they derive from, numbers of NumPy those of Python, and a NamedTuple a tuple. Tensors are not
    copied.

    Raises:
        TypeError: there is something else; the message names the place, after `name`.
    """
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if value is None or type(value) in PLAIN:
        return value
    if torch is not None and isinstance(value, torch.Tensor):
        return value if type(value) is torch.Tensor else value.detach().as_subclass(torch.Tensor)
    if numpy is not None and isinstance(value, numpy.generic):
        return plain(value.item(), name)
    for kind in PLAIN:
        if isinstance(value, kind):
            return kind(value)  # type: ignore[arg-type]
    if isinstance(value, Mapping):
        items = [(plain(key, name), plain(part, f"{name}[{show(key)}]")) for key, part in value.items()]
        if not isinstance(value, OrderedDict):
            return dict(items)
        found = OrderedDict(items)
        vars(found).update(plain(vars(value), name))  # torch keeps the versions of modules there
        return found
    if isinstance(value, list | tuple):
        parts = [plain(part, f"{name}[{number}]") for number, part in enumerate(value)]
        return parts if isinstance(value, list) else tuple(parts)
    raise TypeError(f"{name} is a {type(value).__name__}, not a tensor, number, text, or list or dict of them".strip())
