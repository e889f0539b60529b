"""How a learning rate is scaled with the length of a window."""

from __future__ import annotations

from atbptt.truncation import Policy
from atbptt.windows.schemes import Window, full_losses

LR_SCALINGS = ("none", "sqrt", "linear")


def share_of_base(policy: Policy, scheme: str, window: Window) -> float | None:
    """The window's losses over those of a window of the policy's `base`; None for a policy without one."""
    return None if policy.base is None else window.losses / full_losses(scheme, policy.base)


def full_lr(lr: float, scaling: str, policy: Policy, K: int) -> float:
    """The learning rate of a full window's update: of length K, or of the policy's `base` where it has one."""
    return scaled_lr(lr, scaling, K if policy.base is None else policy.base)


def window_lr(lr: float, scaling: str, policy: Policy, scheme: str, window: Window) -> float:
    """The learning rate of one window's update: see `scaled_lr`, and `Policy` for policies with a `base`."""
    if (share := share_of_base(policy, scheme, window)) is not None:
        return full_lr(lr, scaling, policy, policy.K) * share
    return scaled_lr(lr, scaling, policy.K, window.losses / full_losses(scheme, policy.K))


def scaled_lr(lr: float, scaling: str, K: float, share: float = 1.0) -> float:
    """lr, lr * sqrt(K) or lr * K: with mean losses, a window of K losses deserves a larger step.

    Arguments:
        share: losses of the window as a part of a full window's. The last window of a stream may be short: scaled
            with the whole K, its few losses would count many times what others do, and make a step as much longer.
    """
    K_of_window = K * min(share, 1.0)
    return {"none": lr, "sqrt": lr * K_of_window**0.5, "linear": lr * K_of_window}[scaling]
