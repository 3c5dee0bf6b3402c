"""One step of a GAN as a plain function of (state, batch): the discriminator's updates, then the generator's.

    generate     latents -> examples, and the way back for gradients
    criticise    the discriminator's loss: adversarial, penalty, drift, consistency, class
    make_step    both, with gradients averaged over the devices

Everything random comes from (seed, step, global example index) through `parallel.example_keys`, so that one device and
many, one process and many take the same step.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from nd_jax.network import Network
from nd_jax.networks import deviation
from nd_jax.training import parallel
from nd_jax.training.gan import losses
from nd_jax.training.gan.settings import Settings
from nd_jax.training.gan.state import State, apply, averaged, make_optimizer, score, updated
from nd_jax.training.gan.task import GanTask
from nd_jax.training.losses import cross_entropy

Tree = Any
# What a key of an example is for; a use of its own each, so that none depends on whether another is drawn.
PREPARE, LATENT, MIXTURE, AUGMENT, MAKER, JUDGE, LABEL = range(7)
# Batches of real examples over which a minibatch deviation is averaged when a discriminator is kept.
_FROZEN_BATCHES = 8


class Gan:
    """The two networks, the task and the settings, and one update of each player; nothing in it changes.

    A subclass can have rules of its own: what is drawn, how real examples are shown, what changes from step to step.

    Args:
      generator: see `gan.train`.
      discriminator: see `gan.train`.
      task: what is learned.
      settings: how.
      optimizers: (generator's, discriminator's) optax transformations whose updates are multiplied by minus the
        learning rate; default Adam for both.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        task: GanTask,
        settings: Settings,
        optimizers: tuple[optax.GradientTransformation, optax.GradientTransformation] | None = None,
    ):
        self.generator, self.discriminator = generator, discriminator
        self.task, self.settings = task, settings
        self.loss = losses.adversarial_loss(settings.loss)
        self.optimizers = optimizers or (make_optimizer(settings), make_optimizer(settings))
        # What both networks are called with beside their input.
        self.given: dict[str, Any] = {}

    # --- what changes from step to step -------------------------------------------------------------------------------

    def at(self, step: jax.Array) -> Gan:
        """The rules of a step, a scalar that is not known when it is compiled; as it stands they stay the same."""
        return self

    def finished(self, step: int, networks: tuple[Network, Network]) -> tuple[Network, Network]:
        """Generator and discriminator of the state after so many steps, ready to be kept or looked at.

        A discriminator's minibatch deviation is frozen at its mean over real batches.
        """
        maker, judge = networks
        # What a batch of one decides is a constant; there is nothing to freeze.
        if getattr(judge.module, "batch_decides_from", None) is None or self.settings.batch_size < 2:
            return networks
        module = deviation.frozen(judge.module, judge.variables, self.real_batches)
        return maker, dataclasses.replace(judge, module=module)

    @functools.cached_property
    def real_batches(self) -> list[Tree]:
        """A few batches of real examples as the discriminator sees them when it has learned all."""

        @jax.jit
        def shown(keys: jax.Array, examples: Tree) -> Tree:
            given = jax.vmap(self.task.prepare)(keys, examples)
            x, label = (given["x"], given["label"]) if self.task.conditional else (given, None)
            return self._shown(self.task.show(x), label)

        arrays = {name: np.asarray(values) for name, values in self.task.arrays.items()}
        total, size = len(next(iter(arrays.values()))), self.settings.batch_size
        rows = np.random.default_rng(self.settings.seed % 2**64).permutation(total)
        parts = []
        for number in range(min(_FROZEN_BATCHES, max(total // size, 1))):
            chosen = rows[number * size : (number + 1) * size]
            keys = jax.random.split(jax.random.key(number), len(chosen))
            parts.append(jax.device_get(shown(keys, {name: values[chosen] for name, values in arrays.items()})))
        return parts

    # --- what is drawn ------------------------------------------------------------------------------------------------

    def latents(self, keys: jax.Array, number: int | jax.Array) -> jax.Array:
        """One latent an example: (batch,) keys -> (batch, latent).

        `number` counts the uses within a step: the discriminator's updates from 0, then the generator's; keys differ
        already, so only who brings latents of his own needs it.
        """
        return self.task.z.draw(_fold(keys, LATENT))

    def shares(self, keys: jax.Array, number: int | jax.Array) -> jax.Array:
        """How much of the real example is in each mixture of the gradient penalty: (batch,) keys -> (batch,)."""
        return jax.vmap(jax.random.uniform)(_fold(keys, MIXTURE))

    def asked(self, keys: jax.Array, label: jax.Array | None) -> jax.Array | None:
        """The classes of generated examples, (batch,); as it stands those of the real ones of the step, `label`."""
        return label

    def real(self, x: jax.Array) -> jax.Array:
        """Real examples (batch, ...) as they are shown; as it stands unchanged."""
        return x

    # --- generator ----------------------------------------------------------------------------------------------------

    def generate(
        self, player: State, z: jax.Array, label: jax.Array | None, keys: jax.Array
    ) -> tuple[jax.Array, Callable[[jax.Array], Tree], Tree]:
        """Examples from latents.

        Args:
          player: the generator's.
          z: (batch, latent).
          label: (batch,) classes, or None.
          keys: (batch,).

        Returns:
          Examples (batch, ...), a function that takes their gradient to that of the parameters, and the collections.
        """
        given = z if label is None else {"z": z, "label": label}

        def make(params: Tree) -> tuple[jax.Array, Tree]:
            return apply(self.generator, params, player["collections"], given, keys, self.settings, **self.given)

        fakes, pull, collections = jax.vjp(make, player["params"], has_aux=True)
        return fakes, lambda gradient: pull(gradient)[0], collections

    def update_generator(
        self,
        player: State,
        critic: State,
        fakes: jax.Array,
        pull: Callable[[jax.Array], Tree],
        collections: Tree,
        label: jax.Array | None,
        keys: jax.Array,
        rate: jax.Array | float,
    ) -> tuple[State, Tree, dict[str, jax.Array]]:
        """One update of the generator against a critic.

        Returns:
          The generator's player, the critic's collections afterwards, and metrics.
        """

        def loss_of(fakes: jax.Array) -> tuple[jax.Array, tuple[jax.Array, Tree]]:
            output, after = apply(
                self.discriminator,
                critic["params"],
                critic["collections"],
                self._shown(self.task.show(fakes), label),
                keys,
                self.settings,
                **self.given,
            )
            judged = self._score(output, label)
            total = self.loss.generator(judged) + self._class_loss(output, label)
            return total, (jnp.mean(self.loss.probability(judged)), after)

        (loss, (said, after)), slope = jax.value_and_grad(loss_of, has_aux=True)(fakes)
        gradients = parallel.mean(pull(slope))
        player = updated(player, gradients, collections, self.optimizers[0], rate)
        metrics = {"generator_loss": loss, "fake_score_after": said}
        return player, after, metrics | {"generator_gradient": optax.tree.norm(gradients)}

    # --- discriminator ------------------------------------------------------------------------------------------------

    def criticise(
        self, params: Tree, collections: Tree, real: jax.Array, fakes: jax.Array, label: jax.Array | None, draws: Tree
    ) -> tuple[jax.Array, tuple[Tree, dict[str, jax.Array]]]:
        """The discriminator's loss.

        Args:
          params: its parameters.
          collections: its statistics; every pass moves them: real, generated, then what the penalty needs.
          real: (batch, ...) examples as it sees them (`task.show`).
          fakes: (batch, ...) generated ones, likewise.
          label: (batch,) classes of the real ones, or None.
          draws: {"keys": (batch,), "share": (batch,) of the real example in the penalty's mixture} and, where they are
            others, "label": (batch,) classes of the generated ones.

        Returns:
          Loss, (collections, metrics).
        """
        settings = self.settings
        passes = 0

        def judge(x: jax.Array, label: jax.Array | None) -> Any:
            nonlocal collections, passes
            keys = _fold(draws["keys"], passes)
            passes += 1
            shown = self._shown(x, label)
            output, collections = apply(self.discriminator, params, collections, shown, keys, settings, **self.given)
            return output

        asked = draws.get("label", label)
        on_real, on_fake = judge(real, label), judge(fakes, asked)
        real_scores, fake_scores = self._score(on_real, label), self._score(on_fake, asked)
        loss = self.loss.discriminator(real_scores, fake_scores)
        metrics = {
            "real_score": jnp.mean(self.loss.probability(real_scores)),
            "fake_score": jnp.mean(self.loss.probability(fake_scores)),
        }
        if settings.penalty != "none":
            before = collections

            def scores(x: jax.Array) -> tuple[jax.Array, Tree]:
                output, after = apply(
                    self.discriminator,
                    params,
                    before,
                    self._shown(x, label),
                    _fold(draws["keys"], passes),
                    settings,
                    **self.given,
                )
                return self._score(output, label), after

            if settings.penalty == "r1":
                metrics["penalty"], collections = losses.r1(scores, real)
            else:
                metrics["penalty"], collections = losses.gradient_penalty(scores, real, fakes, draws["share"])
            loss += settings.penalty_weight * metrics["penalty"]
            passes += 1
        if settings.drift:
            loss += settings.drift * jnp.mean(jnp.square(real_scores))
        if settings.consistency and self.task.augment is not None:
            again = jax.vmap(self.task.augment)(_fold(draws["keys"], AUGMENT + 100), real)
            changed = self._score(judge(again, label), label)
            metrics["consistency"] = losses.consistency(real_scores, changed)
            loss += settings.consistency * metrics["consistency"]
        loss += self._class_loss(on_real, label)
        if settings.class_fakes:
            loss += self._class_loss(on_fake, asked)
        if isinstance(on_real, Mapping) and label is not None:
            metrics["class_accuracy"] = jnp.mean(jnp.argmax(on_real["label"], axis=-1) == label)
        return loss, (collections, metrics | {"discriminator_loss": loss})

    def update_discriminator(
        self,
        player: State,
        real: jax.Array,
        fakes: jax.Array,
        label: jax.Array | None,
        draws: Tree,
        rate: jax.Array | float,
    ) -> tuple[State, dict[str, jax.Array]]:
        """One update of the discriminator; arguments as in `criticise`, but for examples as they were made."""
        real, fakes = self.task.show(real), self.task.show(jax.lax.stop_gradient(fakes))
        slope = jax.value_and_grad(self.criticise, has_aux=True)
        (_, (collections, metrics)), gradients = slope(
            player["params"], player["collections"], real, fakes, label, draws
        )
        gradients = parallel.mean(gradients)
        metrics["discriminator_gradient"] = optax.tree.norm(gradients)
        return updated(player, gradients, collections, self.optimizers[1], rate), metrics

    # --- both ---------------------------------------------------------------------------------------------------------

    def _shown(self, x: jax.Array, label: jax.Array | None) -> Tree:
        return x if label is None or not self.task.pairs else {"x": x, "label": label}

    def _score(self, output: Any, label: jax.Array | None) -> jax.Array:
        """Scores (batch,), of examples or, by `pair_weight`, of examples with their classes."""
        if not self.settings.pair_weight or label is None or not isinstance(output, Mapping):
            return score(output)
        return score(output) - self.settings.pair_weight * cross_entropy(output["label"], label)

    def _class_loss(self, output: Any, label: jax.Array | None) -> jax.Array | float:
        if label is None or not isinstance(output, Mapping):
            return 0.0
        return self.settings.class_weight * jnp.mean(cross_entropy(output["label"], label))


def make_step(gan: Gan) -> parallel.Step:
    """One step for `parallel.data_parallel`.

    The batch holds this device's part, {"index": (updates, batch), ...} with a leading axis of the discriminator's
    updates that see a batch of their own (1 when they share one). Metrics are means over all devices, those of the
    discriminator from its last update before the generator's.
    """
    task, settings = gan.task, gan.settings
    rates = [settings.learning_rate(peak) for peak in (settings.generator_lr, settings.discriminator_lr)]
    updates = max(settings.unroll, 1) if settings.critic_steps == 1 else settings.critic_steps
    shared = settings.same_batch or settings.critic_steps == 1

    def reals(keys: jax.Array, part: Tree) -> tuple[jax.Array, jax.Array | None]:
        examples = {name: values for name, values in part.items() if name != "index"}
        # Without the barrier XLA's CPU backend fuses the preparation into the network and runs three times slower.
        given = jax.lax.optimization_barrier(jax.vmap(task.prepare)(_fold(keys, PREPARE), examples))
        return (given["x"], given["label"]) if task.conditional else (given, None)

    def step(state: Tree, batch: Tree) -> tuple[Tree, Tree]:
        count = state["step"]
        now = gan.at(count)

        def generate(generator: State, keys: jax.Array, number: int | jax.Array, label: jax.Array | None) -> Any:
            asked = now.asked(keys, label)
            return *now.generate(generator, now.latents(keys, number), asked, _fold(keys, MAKER)), asked

        first = jax.tree.map(lambda leaf: leaf[0], batch)
        same = reals(parallel.example_keys(settings.seed, count, first["index"]), first) if shared else None

        def update(players: tuple[State, State], turn: tuple[Any, Tree]) -> Any:
            """One update of the discriminator, and the generated examples that it saw."""
            (generator, critic), (number, part) = players, turn
            keys = parallel.example_keys(settings.seed, count, part["index"])
            real, label = same or reals(_fold(keys, 1000 + number), part)
            keys = _fold(keys, 2000 + number)
            made = generate(generator, keys, number, label)
            draws = {"keys": _fold(keys, JUDGE), "share": now.shares(keys, number), "label": made[3]}
            critic, metrics = now.update_discriminator(critic, now.real(real), made[0], label, draws, rates[1](count))
            return (generator | {"collections": made[2]}, critic), (metrics, label, keys), made

        def scanned(players: tuple[State, State], turn: tuple[Any, Tree]) -> Any:
            return update(players, turn)[:2]

        players: tuple[State, State] = (state["generator"], state["discriminator"])
        last: Any = None
        made: Any = None
        if updates == 1 or settings.unroll > 1:
            players, last, made = update(players, (0, first))
        kept = players[1]
        if updates > 1:
            # A loop, because five updates in a row would take five times as long to compile and are no faster.
            begin = 1 if settings.unroll > 1 else 0
            numbers = jnp.arange(begin, updates)
            parts = jax.tree.map(lambda leaf: leaf[numbers * (not shared)], batch)
            players, each = jax.lax.scan(scanned, players, (numbers, parts))
            last = jax.tree.map(lambda leaf: leaf[-1], each)
        metrics, label, keys = last
        generator, critic = players
        if not settings.reuse_fakes:
            keys = _fold(keys, 3000)
            made = generate(generator, keys, updates, label)
        fakes, pull, collections, asked = made
        generator, after, more = now.update_generator(
            generator, critic, fakes, pull, collections, asked, _fold(keys, 4000), rates[0](count)
        )
        # A discriminator that looked ahead goes back to where it was after its first update, with all its memory.
        critic = critic | {"collections": after} if settings.unroll < 2 else kept
        state = {
            "step": count + 1,
            "generator": generator,
            "discriminator": critic,
            "average": averaged(state["average"], generator, count, settings),
        }
        metrics = parallel.mean(metrics | more)
        if settings.check_replicas:
            metrics["spread"] = parallel.spread((state["generator"]["params"], state["discriminator"]["params"]))
        return state, metrics

    return step


def _fold(keys: jax.Array, use: int | jax.Array) -> jax.Array:
    """(batch,) keys for one use."""
    return jax.vmap(lambda key: jax.random.fold_in(key, use))(keys)
