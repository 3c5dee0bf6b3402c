"""What a GAN learns to make: examples, how one becomes what the discriminator sees, and what the latent is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.domain import Domain, Label, Latent, Parts, converter

Tree = Any
Arrays = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class GanTask:
    """What is learned.

    Attributes:
      arrays: with one leading axis of examples; of a conditional GAN the class numbers are `arrays["label"]`.
      prepare: (key, one example of `arrays`) -> what the discriminator sees, of the domain's shape; of a conditional
        GAN {"x": that, "label": class number}. Pure; all randomness from the key.
      domain: what is made.
      latent: size of the latent.
      labels: names of the classes; () for an unconditional GAN.
      pairs: of a conditional GAN: whether the discriminator sees {"x", "label"} (projection), or the example alone and
        says the class itself (auxiliary classifier: {"score", "label": logits}).
      law: of the latent: "normal" (standard) or "uniform" (-1 ... 1).
      augment: (key, x as the discriminator sees it) -> x changed so little that it should not care; for consistency
        regularisation.
      seen: what the discriminator sees instead of `domain`, such as log-mels of a generator of samples: real and
        generated examples are brought there on the way (`nd_jax.domain.converter`), and penalties are meant there.
    """

    arrays: Arrays
    prepare: Callable[[jax.Array, Mapping[str, jax.Array]], Any]
    domain: Domain
    latent: int
    labels: tuple[str, ...] = ()
    pairs: bool = True
    law: str = "normal"
    augment: Callable[[jax.Array, jax.Array], jax.Array] | None = None
    seen: Domain | None = None

    @property
    def conditional(self) -> bool:
        """Whether a class is asked for."""
        return bool(self.labels)

    @property
    def z(self) -> Latent:
        """The latent."""
        return Latent(self.latent, self.law)

    @property
    def generator_input(self) -> Domain:
        """What the generator takes: a latent, or {"z", "label"}."""
        z = self.z
        return Parts({"z": z, "label": Label(self.labels)}) if self.conditional else z

    @property
    def discriminator_input(self) -> Domain:
        """What the discriminator takes: an example, or {"x", "label"}."""
        seen = self.seen or self.domain
        if self.conditional and self.pairs:
            return Parts({"x": seen, "label": Label(self.labels)})
        return seen

    def show(self, x: jax.Array) -> jax.Array:
        """What the discriminator sees of examples: (batch, *domain.shape) -> (batch, *seen.shape); differentiable."""
        return x if self.seen is None else jax.vmap(converter(self.domain, self.seen))(x)


def check(task: GanTask, generator: nn.Module, discriminator: nn.Module) -> None:
    """Refuses what does not fit together, before anything compiles.

    Raises:
      ValueError: no examples; examples, generator or discriminator of another shape than the domain; labels out of
        range; a discriminator that sees what examples cannot become; in one sentence.
    """
    given = _given(task)
    x = given["x"] if task.conditional else given
    if task.seen is not None:
        converter(task.domain, task.seen)  # refuses what has no way to the other
    if x.shape != task.domain.shape:
        raise ValueError(f"the examples have the shape {x.shape} and the domain {task.domain.shape}")
    made = _output(generator, dummy(task.generator_input))
    if getattr(made, "shape", None) != (2, *x.shape):
        raise ValueError(
            f"the generator ({type(generator).__name__}) makes {_words(made, 'examples')}, and those of the "
            f"data have {x.shape}"
        )
    _check_said(task, discriminator, _output(discriminator, dummy(task.discriminator_input)))


def _given(task: GanTask) -> Any:
    """Shapes of what `prepare` gives for one example."""
    arrays = {name: np.asarray(values) for name, values in task.arrays.items()}
    sizes = {name: len(values) if values.ndim else 0 for name, values in arrays.items()}
    if not sizes or min(sizes.values()) == 0:
        raise ValueError(f"there are no examples to learn from: the arrays have {sizes or 'no members'}")
    _check_labels(task)
    example = {name: jax.ShapeDtypeStruct(values.shape[1:], values.dtype) for name, values in arrays.items()}
    given = jax.eval_shape(task.prepare, jax.random.key(0), example)
    fits = isinstance(given, Mapping) and {"x", "label"} <= set(given) if task.conditional else hasattr(given, "shape")
    if not fits:
        wanted = 'a dict {"x", "label"}' if task.conditional else "a plain array"
        raise ValueError(
            f"prepare gives {_words(given, 'an array', 0)}, and with {len(task.labels)} labels it gives {wanted}"
        )
    return given


def _check_said(task: GanTask, discriminator: nn.Module, said: Any) -> None:
    """Refuses an output of the discriminator, for two examples, that the losses cannot read."""
    who = f"the discriminator ({type(discriminator).__name__})"
    if task.conditional and not task.pairs:
        if not isinstance(said, Mapping) or not {"score", "label"} <= set(said):
            raise ValueError(f'{who} has to give {{"score", "label"}}, since it names the class itself')
        if said["label"].shape != (2, len(task.labels)):
            raise ValueError(
                f"{who} has to give one logit for each of the {len(task.labels)} classes, and gives "
                f"{said['label'].shape[1:]}"
            )
        said = said["score"]
    if getattr(said, "shape", None) not in ((2,), (2, 1)):
        raise ValueError(f"{who} has to give one score an example, and gives {_words(said, 'scores')}")


def _words(given: Any, noun: str, batch_axes: int = 1) -> str:
    """What a function of examples gave, for a message."""
    if isinstance(given, Mapping):
        return f"a dict with the keys {sorted(given)}"
    shape = getattr(given, "shape", None)
    return type(given).__name__ if shape is None else f"{noun} of shape {shape[batch_axes:]}"


def dummy(domain: Domain) -> Tree:
    """Two examples of silence, for shapes and initialisation."""
    return jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), domain.silence())


def _output(module: nn.Module, x: Tree) -> Any:
    """Shapes of what an untrained module gives in training; computes nothing."""
    key = jax.random.key(0)

    def run(x: Tree) -> Any:
        variables = module.init(key, x, train=False)
        # What is drawn from these two is drawn from each example's own key instead.
        return module.apply(variables, x, train=True, mutable=True, rngs={"dropout": key, "phase": key})[0]

    try:
        return jax.eval_shape(run, x)
    except flax.errors.InvalidRngError as error:
        raise ValueError(
            f"{type(module).__name__} draws numbers of its own in training ({str(error).partition(' (')[0]}), and only "
            "nn.Dropout and PhaseShuffle can be given each example's own key; put the randomness into the latent"
        ) from None
    except (TypeError, ValueError) as error:
        what = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        taken = jax.tree.map(lambda leaf: leaf.shape[1:], x)
        raise ValueError(f"{type(module).__name__} cannot take examples of shape {taken}: {what}") from None


def _check_labels(task: GanTask) -> None:
    if not task.conditional:
        return
    if "label" not in task.arrays:
        raise ValueError(
            f"a GAN with {len(task.labels)} classes needs an array 'label'; there are {sorted(task.arrays)}"
        )
    label = np.asarray(task.arrays["label"])
    if label.dtype.kind not in "iu" or label.ndim != 1:
        raise ValueError(f"labels are whole numbers, one an example, not {label.dtype} of shape {label.shape}")
    wrong = label[(label < 0) | (label >= len(task.labels))]
    if len(wrong):
        raise ValueError(
            f"label {wrong[0]} is out of range: there are {len(task.labels)} classes, so labels are 0 ... "
            f"{len(task.labels) - 1}"
        )
