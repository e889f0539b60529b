"""What a checkpoint may hold: tensors and plain values, which are read without running code."""

import sys
from collections import OrderedDict
from typing import Any

from atbptt.errors import show

PLAIN = (bool, int, float, str, bytes)


def plain(value: Any, name: str = "") -> Any:
    """The value, if it is made of tensors, numbers, texts, bytes, null, lists, tuples and dicts.

    Numbers of NumPy become those of Python, and tensors of other classes plain ones. Tensors are not copied.

    Raises:
        TypeError: there is something else, such as an Enum or a defaultdict, which would come back as another thing;
            the message names the place, after `name`.
    """
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    kind = type(value)
    if value is None or kind in PLAIN:
        return value
    if torch is not None and isinstance(value, torch.Tensor):
        return value if kind is torch.Tensor else value.detach().as_subclass(torch.Tensor)
    if numpy is not None and isinstance(value, numpy.bool_ | numpy.number):
        return value.item()
    if kind in (dict, OrderedDict):
        found = kind((plain(key, name), plain(part, f"{name}[{show(key)}]")) for key, part in value.items())
        if kind is OrderedDict:
            vars(found).update(plain(vars(value), name))  # torch keeps the versions of modules there
        return found
    if kind in (list, tuple) or (torch is not None and kind is torch.Size):
        parts = [plain(part, f"{name}[{number}]") for number, part in enumerate(value)]
        return parts if kind is list else tuple(parts)
    raise TypeError(f"{name} is a {kind.__name__}, not a tensor, number, text, or list or dict of them".strip())
