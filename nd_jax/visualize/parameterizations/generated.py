"""Inputs that a generator makes: its latent is free, what comes out is brought to the domain of the network."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax import generators, pytree, taps
from nd_jax.domain import Domain, Latent, converter
from nd_jax.network import Network
from nd_jax.visualize.parameterizations import core, latents

# What is done with the class of a generator that is asked for one.
CONDITIONS = ("none", "class", "free", "held")


@functools.partial(
    pytree.register,
    data_fields=["generator", "label"],
    meta_fields=["sd", "project", "condition"],
)
@dataclasses.dataclass(frozen=True, eq=False)
class Prior:
    """See `prior`."""

    name: ClassVar[str] = "prior"
    # Other starts are drawn from the law as the first one is: a latent that is longer is not another sound.
    grows: ClassVar[bool] = False
    # The generator's own sound at a snapshot cannot be told from the input that was made of it.
    keeps_way: ClassVar[bool] = True

    generator: Network
    label: Any = None
    sd: float = 1.0
    project: bool = True
    condition: str = "none"

    @property
    def latent(self) -> Latent:
        """The domain of the generator's latent."""
        return generators.latent_of(self.generator)

    def init(self, key: jax.Array, domain: Domain) -> dict[str, jax.Array]:
        converter(self.generator.output, domain)
        latent = self.latent
        z = jax.random.normal(key, latent.shape) if self.project else latent.draw(key[None])[0]
        found = {"z": self.sd * z}
        classes = len(generators.classes_of(self.generator))
        other = jax.random.fold_in(key, 1)
        if self.condition == "free":
            found["label"] = 0.01 * jax.random.normal(other, (classes,))
        elif self.condition == "held":
            found["label"] = jax.nn.one_hot(jax.random.randint(other, (), 0, classes), classes)
        return found

    def apply(
        self,
        parameters: dict[str, jax.Array],
        domain: Domain,
        stir: Callable[[jax.Array], jax.Array] | None = None,
    ) -> jax.Array:
        convert = converter(self.generator.output, domain)
        z = self.latents(parameters)
        z = (z if stir is None else stir(z))[None]
        label = self.classes(parameters)
        given = z if label is None else {"z": z, "label": label[None]}
        made = taps.forward(self.generator, given, ())[0][0]
        return convert(made.astype(jnp.float32))

    def latents(self, parameters: dict[str, jax.Array]) -> jax.Array:
        """What the generator is given, (..., size), from parameters with any leading axes."""
        return latents.projected(parameters["z"], self.latent) if self.project else parameters["z"]

    def classes(self, parameters: dict[str, jax.Array]) -> jax.Array | None:
        """The class that is asked for: its number, or the weights of all, (..., classes); None without classes."""
        if self.condition == "free":
            return jax.nn.softmax(parameters["label"])
        if self.condition == "held":
            return jax.lax.stop_gradient(parameters["label"])
        return None if self.label is None else jnp.asarray(self.label, jnp.int32)

    def starts(self, key: jax.Array, count: int, labels: Sequence[str | int] = ()) -> dict[str, np.ndarray]:
        """Parameters (count, ...) for `visualize_batch(start=...)`: lane i depends on the key and i, not on the count.

        Args:
          key: a JAX key.
          count: how many lanes.
          labels: with label="held", the class of each lane, by name or number, repeated in turn.

        Raises:
          ValueError: labels without label="held", or no such class.
        """
        if bool(labels) != (self.condition == "held"):
            raise ValueError('starts takes labels where the prior has label="held", and none elsewhere')
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(count))
        found = jax.device_get(jax.vmap(lambda each: self.init(each, self.generator.output))(keys))
        if labels:
            numbers = np.resize(generators.class_numbers(self.generator, labels), count)
            found["label"] = np.eye(found["label"].shape[1], dtype=np.float32)[numbers]
        return found


def prior(generator: Network, *, label: str | int | None = None, sd: float = 1.0, project: bool = True) -> Prior:
    """Inputs from a generator: its latent is free, and what it makes becomes an input of the network.

    x = convert(G(z)): a learned prior (Nguyen et al. 2016, "Synthesizing the preferred inputs for neurons in neural
    networks via deep generator networks"). `nd_jax.domain.converter` brings what is made to the network's domain:
    identical domains pass through, sound is resampled, centred and analysed by the network's own front end, levels
    are moved into another range. The generator's weights are an argument of the compiled program, one copy for all
    lanes; results name it by its fingerprint. Parameters: {"z": (size,)}, and {"label": (classes,)} where classes are
    free or held. There is no way back from an input, so that a run cannot begin at a given one.
    `transforms.latent_noise` and `latent_dropout` perturb z in front of the generator, all others what it made.

    Args:
      generator: a `Network` that takes a `Latent`, or {"z": Latent, "label": Label}.
      label: of a generator with classes: the name or number of the one that is asked for (another one is not another
        program); "free" for a mixture, softmax of free numbers; "held" for a class of each lane's own, drawn by its
        key or given by `visualize_batch(start=prior(...).starts(key, count, labels))`.
      sd: of the free numbers at the start, standard normal; a projection makes it the inverse of the step size.
      project: keep z where its law is, see `latent`. False frees it (class-based maximisation with a penalty on
        ||z||, `penalties.latent_length`); a latent of law "uniform" is then drawn from it and has no bounds.

    Raises:
      ValueError: no generator, a class that it does not have or cannot mix, in one sentence. A domain that does not
        fit is refused when the run begins, before anything compiles.
    """
    if not isinstance(generator, Network):
        raise ValueError(f"prior takes a generator, a nd_jax Network, got {type(generator).__name__}")
    generators.latent_of(generator)
    names = generators.classes_of(generator)
    core.not_negative("sd", sd)
    condition, number = "none", None
    if names and label is None:
        raise ValueError(f'this generator is asked for one of {len(names)} classes: give label=, its name, or "free"')
    if label is not None and not names:
        raise ValueError(f"label={label!r} is given, but this generator has no classes")
    if label in ("free", "held") and label not in names:
        condition = str(label)
        _check_mixing(generator, len(names))
    elif label is not None:
        condition, number = "class", np.asarray(generators.class_numbers(generator, [label])[0], np.int32)
    return Prior(generator, number, float(sd), bool(project), condition)


def _check_mixing(generator: Network, classes: int) -> None:
    latent = generators.latent_of(generator)
    given = {"z": latent.abstract(1), "label": jax.ShapeDtypeStruct((1, classes), jnp.float32)}
    try:
        jax.eval_shape(lambda x: taps.forward(generator, x, ())[0], given)
    except (TypeError, ValueError):
        raise ValueError(
            "this generator takes whole classes only, not weights of them (batch, classes), so that label must be the "
            "name or number of one"
        ) from None
