"""Which axis of a layer's output is time."""

from __future__ import annotations

from nd_jax.domain.core import Domain


def time_axis(domain: Domain, shape: tuple[int, ...]) -> int | None:
    """The axis of a layer's output (batch included) that is time: the input's own, while no spatial axis is gone.

    Args:
      domain: of the network's input.
      shape: of the layer's output for one example.

    Returns:
      The axis, or None for inputs that are not sound and for layers without it.
    """
    if not domain.is_sound or not isinstance(domain.shape, tuple) or len(shape) != len(domain.shape):
        return None
    found = [index for index, axis in enumerate(domain.axes[:-1]) if axis.name == "time"]
    return found[0] + 1 if found and shape[found[0]] > 1 else None
