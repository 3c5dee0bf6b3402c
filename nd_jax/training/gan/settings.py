"""How a GAN is trained: everything that decides the result beside networks and data."""

from __future__ import annotations

import dataclasses

import optax

from nd_jax.runtime import nearest
from nd_jax.training.gan.losses import PENALTIES, adversarial_loss

SCHEDULES = ("constant", "linear", "cosine", "exponential")
PRECISIONS = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Settings:
    """How it is learned. One step is one update of the generator, with all updates of the discriminator before it.

    Attributes:
      steps: number of steps.
      batch_size: real examples (and as many generated ones) per update, over all devices.
      loss: name of a pair of losses, see `losses`.
      penalty: "none", "gradient_penalty" (Wasserstein GANs) or "r1".
      penalty_weight: what the penalty counts in the discriminator's loss.
      drift: weight of the mean squared score of real examples (Karras et al. 2018, A.1).
      critic_steps: updates of the discriminator before each update of the generator.
      same_batch: whether these see one batch of real examples instead of one each.
      unroll: the generator learns against a discriminator that is so many updates (of this same batch, with fresh
        latents) ahead of the one that is kept; 0 or 1 is ordinary training. The first of these updates is
        the one that stays (Metz et al. 2017, without the gradient through the updates, as Inoue 2021).
      consistency: weight of `losses.consistency` under the task's `augment`.
      class_weight: weight of the class loss of a discriminator with an auxiliary classifier (Odena et al. 2017).
      class_fakes: whether the discriminator learns the classes of generated examples too, as there, or of real ones
        only (Engel et al. 2019).
      pair_weight: how much of log p(class | example) of an auxiliary classifier is part of the score. At 0 the score
        asks whether an example is real; a generator can then go on making real examples of the wrong class where the
        classifier is mistaken about them. At 1 it asks whether example and class are a real pair, as a projection
        discriminator does (Miyato & Koyama 2018), and the classifier learns its mistakes.
      reuse_fakes: whether the generator's update uses the examples that the discriminator has just seen instead of
        fresh ones; for one critic step without unrolling.
      generator_lr: learning rate of Adam.
      discriminator_lr: likewise.
      beta1: Adam's decay of the first moment, of both.
      beta2: and of the second.
      schedule: of both learning rates over the steps: "constant"; "linear" or "cosine" down to 0; "exponential".
      decay: of "exponential": the factor per `decay_every` steps.
      decay_every: see `decay`; such as the steps of one epoch.
      ema: decay per step of the moving average of the generator, which is what is kept at the end; 0 for none.
      ema_warmup: whether the average is shorter early on: (1 + step) / (10 + step).
      train_mode: False trains with running statistics in batch normalisation and without dropout.
      precision: "bfloat16" computes the networks in it, with float32 parameters, statistics and losses: for
        accelerators, on a CPU it is slower.
      steps_per_call: steps of one compiled call; 0 chooses 1 on CPU, and on accelerators the largest divisor of
        log_every up to 10.
      log_every: steps between lines of the log, the moments when the host waits for the devices.
      save_every: steps between checkpoints, a multiple of log_every.
      watch_every: steps between looks of the watchers (samples, figures), a multiple of log_every; 0 only at the end.
      history: how many log-spaced snapshots of both networks are kept for good; 0 for none.
      check_replicas: debug: stop when the devices' copies of the parameters differ.
      seed: of parameters, data order, latents, augmentation and dropout.
    """

    steps: int = 10_000
    batch_size: int = 64
    loss: str = "non_saturating"
    penalty: str = "none"
    penalty_weight: float = 10.0
    drift: float = 0.0
    critic_steps: int = 1
    same_batch: bool = False
    unroll: int = 0
    consistency: float = 0.0
    class_weight: float = 1.0
    class_fakes: bool = True
    pair_weight: float = 0.0
    reuse_fakes: bool = False
    generator_lr: float = 2e-4
    discriminator_lr: float = 2e-4
    beta1: float = 0.5
    beta2: float = 0.999
    schedule: str = "constant"
    decay: float = 0.99
    decay_every: int = 1000
    ema: float = 0.999
    ema_warmup: bool = True
    train_mode: bool = True
    precision: str = "float32"
    steps_per_call: int = 0
    log_every: int = 50
    save_every: int = 500
    watch_every: int = 0
    history: int = 0
    check_replicas: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        adversarial_loss(self.loss)
        for name, choices in (("penalty", PENALTIES), ("schedule", SCHEDULES), ("precision", PRECISIONS)):
            if getattr(self, name) not in choices:
                raise ValueError(f"there is no {name} {getattr(self, name)!r}; {nearest(getattr(self, name), choices)}")
        for name in ("steps", "batch_size", "critic_steps", "log_every", "save_every", "decay_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, not {getattr(self, name)}")
        for name in ("generator_lr", "discriminator_lr", "decay"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        weights = ("penalty_weight", "drift", "consistency", "class_weight", "pair_weight")
        for name in (*weights, "unroll", "steps_per_call", "history"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, and is {getattr(self, name)}")
        for name in ("beta1", "beta2", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, not {getattr(self, name)}")
        for name in ("save_every", "watch_every"):
            if getattr(self, name) % self.log_every:
                raise ValueError(
                    f"{name} {getattr(self, name)} is not a multiple of log_every {self.log_every}; "
                    "what is saved or looked at comes at the end of a line of the log"
                )
        if self.reuse_fakes and (self.critic_steps > 1 or self.unroll > 1):
            raise ValueError(
                f"reuse_fakes needs one update of the discriminator a step, not critic_steps {self.critic_steps} "
                f"and unroll {self.unroll}"
            )
        if self.unroll > 1 and self.critic_steps > 1:
            raise ValueError(
                f"unroll {self.unroll} looks ahead of one update of the discriminator; take critic_steps 1 instead of "
                f"{self.critic_steps}"
            )

    def learning_rate(self, peak: float) -> optax.Schedule:
        """The learning rate over the steps that starts (or stays) at `peak`."""
        if self.schedule == "linear":
            return optax.linear_schedule(peak, 0.0, self.steps)
        if self.schedule == "cosine":
            return optax.cosine_decay_schedule(peak, self.steps)
        if self.schedule == "exponential":
            return optax.exponential_decay(peak, self.decay_every, self.decay)
        return optax.constant_schedule(peak)
