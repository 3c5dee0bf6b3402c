"""What a generator takes and what it makes: latents that depend on (seed, number) only, classes by name, slerp.

A generator is a network whose input is a `Latent`, or `Parts` of one ("z") and a `Label` ("label").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.domain import Domain, Label, Latent, Parts
from nd_jax.network import Network
from nd_jax.runtime import nearest, progress_bar

# What is made together is always so many, filled up, because a sum may come out another way in a batch of another size.
_BATCH = 16


def latent_of(network: Network) -> Latent:
    """The latent that a generator takes.

    Raises:
      ValueError: the network takes something else, so it is no generator.
    """
    given = network.input
    if isinstance(given, Parts) and set(given.parts) == {"z", "label"} and isinstance(given["label"], Label):
        given = given["z"]
    if not isinstance(given, Latent):
        raise ValueError(f"the network is not a generator: it takes {_words(network.input)}, and a generator a latent")
    return given


def classes_of(network: Network) -> tuple[str, ...]:
    """The names of the classes that a generator can be asked for; () without."""
    latent_of(network)
    asked = network.input["label"] if isinstance(network.input, Parts) else None
    return asked.names if isinstance(asked, Label) else ()


def class_numbers(network: Network, labels: Sequence[str | int]) -> list[int]:
    """Numbers of classes given by name or by number; a name that is also a number is taken as the name.

    Raises:
      ValueError: no such class, or a generator without classes, in one sentence.
    """
    names = classes_of(network)
    if labels and not names:
        raise ValueError("labels are given, but this generator has no classes")
    found = []
    for label in labels:
        text = str(label)
        if isinstance(label, str) and text in names:
            found.append(names.index(text))
        elif text.isdecimal() and int(text) < len(names):
            found.append(int(text))
        else:
            raise ValueError(
                f"no class {text!r}; {nearest(text, names)} (or a number from 0 to {len(names) - 1}, in their order)"
            )
    return found


def inputs(
    network: Network, seed: int, count: int, *, labels: Sequence[str | int] = (), truncation: float = 1.0
) -> Any:
    """The first `count` inputs of a seed; number i depends on the seed and i, never on the count.

    Args:
      network: a generator.
      seed: of the latents.
      count: how many.
      labels: of a generator with classes: which are asked for, in turn; by default all, in order.
      truncation: what latents are multiplied with; below 1 they lie nearer to the middle, where outputs are more
        typical and less varied.

    Returns:
      (count, latent) float32, or {"z": that, "label": (count,) int32}.

    Raises:
      ValueError: the network is no generator, no such class, or senseless numbers.
    """
    latent, names = latent_of(network), classes_of(network)
    if count < 1:
        raise ValueError(f"count must be 1 or more, got {count}")
    if not 0 <= truncation < float("inf"):
        raise ValueError(f"truncation must be 0 or more, got {truncation}")
    asked = class_numbers(network, labels) or list(range(len(names)))
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), jnp.arange(count))
    z = np.asarray(latent.draw(keys)) * np.float32(truncation)
    if not names:
        return z
    return {"z": z, "label": np.resize(np.asarray(asked, np.int32), count)}


def make(network: Network, given: Any, *, progress: bool | Callable[[int, int], None] = False) -> Any:
    """Runs a generator on any number of inputs, always so many at a time, so that each comes out the same.

    Args:
      network: a generator.
      given: as `inputs` makes them.
      progress: a bar on standard error, or a function of (done, total).

    Returns:
      (n, *output.shape) numpy float32, or a dict of parts.

    Raises:
      ValueError: latents of another size, no such class, another number of classes than of latents, or none.
    """
    network.check_batch(given)
    counts = {len(leaf) for leaf in jax.tree.leaves(given)}
    if len(counts) > 1 or 0 in counts:
        raise ValueError(
            "there are as many latents as classes, and one or more of each, not "
            + " and ".join(str(len(leaf)) for leaf in jax.tree.leaves(given))
        )
    count = counts.pop()
    made = []
    with progress_bar(count, "sample", progress) as tick:
        for start in range(0, count, _BATCH):
            part = jax.tree.map(lambda leaf, at=start: np.asarray(leaf)[at : at + _BATCH], given)
            missing = _BATCH - len(jax.tree.leaves(part)[0])
            full = jax.tree.map(lambda leaf, more=missing: np.concatenate([leaf, np.repeat(leaf[-1:], more, 0)]), part)
            # NumPy has no bfloat16 that it could save.
            made.append(
                jax.tree.map(lambda leaf, less=missing: np.asarray(leaf, np.float32)[: _BATCH - less], network(full))
            )
            tick(_BATCH - missing)
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *made)


def slerp(one: Any, other: Any, share: Any, *, proportional: bool = True) -> np.ndarray:
    """The way from one latent to another along the sphere; a straight line where the angle is 0 or half a turn.

    The straight line would pass nearer to the middle than any latent of training lies. Source: White 2016, "Sampling
    Generative Networks".

    Args:
      one: (latent,).
      other: (latent,).
      share: (steps,) how far, 0 ... 1.
      proportional: whether the length goes evenly from one's to the other's. Otherwise the two are weighted as they
        are, with sin((1 - t) w) / sin(w) and sin(t w) / sin(w) for an angle w: White's formula to the letter.

    Returns:
      (steps, latent) float32.
    """
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    far = np.asarray(share, np.float64)[:, None]
    lengths = np.linalg.norm(one), np.linalg.norm(other)
    if min(lengths) == 0:
        return np.asarray((1 - far) * one[None] + far * other[None], np.float32)
    first, second = one[None] / lengths[0], other[None] / lengths[1]
    angle = np.arccos(np.clip(np.sum(first * second), -1.0, 1.0))
    if not proportional and np.sin(angle) >= 1e-6:
        return np.asarray(
            (np.sin((1 - far) * angle) * one[None] + np.sin(far * angle) * other[None]) / np.sin(angle), np.float32
        )
    if np.sin(angle) < 1e-6:
        direction = (1 - far) * first + far * second
    else:
        direction = (np.sin((1 - far) * angle) * first + np.sin(far * angle) * second) / np.sin(angle)
    return np.asarray(direction * ((1 - far) * lengths[0] + far * lengths[1]), np.float32)


def _words(domain: Domain) -> str:
    if isinstance(domain, Parts):
        return " and ".join(f"{name!r} ({_words(part)})" for name, part in domain.parts.items())
    return f"{domain.kind.replace('_', '-')} inputs of shape {tuple(domain.shape)}"
