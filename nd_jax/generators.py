"""What a generator takes and what it makes: latents that depend on (seed, number) only, classes by name, slerp.

A generator is a network whose input is a `Latent`, or `Parts` of one ("z") and a `Label` ("label").
"""

from __future__ import annotations

import re
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

_PITCH = re.compile(r"([A-Ga-g])([#♯b♭]?)(-?\d+)")
_STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_SIGNS = {"": 0, "#": 1, "♯": 1, "b": -1, "♭": -1}


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


def pitch_of(name: str) -> int | None:
    """The MIDI number of a pitch: "C4", "F#3", "Bb2" or "60", the number itself; None for any other name."""
    match = _PITCH.fullmatch(name)
    if match:
        letter, sign, octave = match.groups()
        return 12 * (int(octave) + 1) + _STEPS[letter.upper()] + _SIGNS[sign]
    return int(name) if name.isdecimal() else None


def pitches_of(names: Sequence[str]) -> list[int]:
    """The MIDI numbers of classes of which every one is called as a pitch is, see `pitch_of`; [] of any others."""
    found = [pitch_of(name) for name in names]
    return [number for number in found if number is not None] if None not in found else []


def class_numbers(network: Network, labels: Sequence[str | int]) -> list[int]:
    """Numbers of classes, in the order of the network's own names.

    A text is a name first. Where the classes are pitches, it is otherwise a pitch: "Bb3" for "A#3", and "60", a MIDI
    number, for "C4"; where they are not, "2" is the third class. A whole number that is no text counts the classes from
    0, whatever they are called.

    Raises:
      ValueError: no such class, or a generator without classes, in one sentence.
    """
    names = classes_of(network)
    if labels and not names:
        raise ValueError("labels are given, but this generator has no classes")
    return named_numbers(names, labels)


def named_numbers(names: Sequence[str], labels: Sequence[str | int]) -> list[int]:
    """As `class_numbers`, from the names of the classes."""
    return [_named_number(list(names), pitches_of(names), label) for label in labels]


def _named_number(names: list[str], pitches: list[int], label: str | int) -> int:
    text, pitch = str(label), pitch_of(str(label))
    known = f"a number from 0 to {len(names) - 1}, in their order"
    if isinstance(label, str) and text in names:
        return names.index(text)
    if isinstance(label, str) and pitches:
        if pitch in pitches:
            return pitches.index(pitch)
        # A number that is no name is not taken for a place: where classes are called 48 to 84, 5 is a slip.
        what = "one" if all(name.isdecimal() for name in names) else "a MIDI number"
        known = f"{what} from {min(pitches)} to {max(pitches)}"
    elif text.isdecimal() and int(text) < len(names):
        return int(text)
    elif pitch in pitches:
        known += f"; for the MIDI number give a text, {text!r}"
    raise ValueError(f"no class {text!r}; {nearest(text, names)} (or {known})")


def length_weighs(network: Network) -> bool:
    """Whether a generator's first layer weighs the length of the latent, or only its direction, as GANSynth's does.

    Pixel norm over the latent and the one-hot class together: a longer latent leaves less of the class, and a shorter
    one less of itself. Without classes the length says nothing at all.
    """
    latent_of(network)
    return bool(getattr(network.module, "length_weighs", False))


def inputs(
    network: Network, seed: int, count: int, *, labels: Sequence[str | int] = (), truncation: float = 1.0
) -> Any:
    """The first `count` inputs of a seed; number i depends on the seed and i, never on the count.

    Args:
      network: a generator.
      seed: of the latents.
      count: how many.
      labels: of a generator with classes: which are asked for, in turn, as `class_numbers` takes them; by default all,
        in order.
      truncation: what latents are multiplied with; below 1 they lie nearer to the middle, where outputs are more
        typical and less varied. Only 1 where the length means something else (`length_weighs`).

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
    if truncation != 1 and length_weighs(network):
        why = "the latent against the class, so that another length changes how much is heard of the class"
        raise ValueError(
            f"truncation {truncation:g} is not for this generator: the length of a latent weighs {why}"
            if names
            else f"truncation {truncation:g} is not for this generator: it reads the direction of a latent alone"
        )
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
      ValueError: latents of another size or not finite, no such class, another number of classes than of latents, or
        none.
    """
    network.check_batch(given)
    counts = {len(leaf) for leaf in jax.tree.leaves(given)}
    if len(counts) > 1 or 0 in counts:
        raise ValueError(
            "there are as many latents as classes, and one or more of each, not "
            + " and ".join(str(len(leaf)) for leaf in jax.tree.leaves(given))
        )
    broken = sum(np.count_nonzero(~np.isfinite(np.asarray(leaf, np.float32))) for leaf in jax.tree.leaves(given))
    if broken:
        raise ValueError(f"latents must be finite, and {broken} of these numbers are NaN or infinite")
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

    Raises:
      ValueError: not two latents of one size, shares that are no list, or numbers that are not finite.
    """
    one, other, steps = (np.asarray(each, np.float64) for each in (one, other, share))
    if one.ndim != 1 or one.shape != other.shape or not one.size:
        raise ValueError(f"slerp goes between two latents (latent,) of one size, not {one.shape} and {other.shape}")
    if steps.ndim != 1:
        raise ValueError(f"slerp takes a list of shares (steps,), not of shape {steps.shape}")
    if not all(np.isfinite(each).all() for each in (one, other, steps)):
        raise ValueError("slerp takes finite latents and shares, and some of these are not")
    far = steps[:, None]
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
