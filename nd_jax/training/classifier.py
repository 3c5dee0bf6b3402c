"""Training of a classifier with one or several heads, from top to bottom.

  `Task`      what is learned: arrays, and how one example becomes a network input and labels
  `Settings`  how it is learned
  `train`     the host loop: data, model, step, checkpoint, evaluation, loop

The step runs data-parallel (`parallel`), everything random comes from (seed, step, example index), and every evaluation
ends with a checkpoint: a run that is killed at any moment goes on from the last one and ends bit-identical.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from nd_jax import data
from nd_jax.training import hosts, losses, parallel
from nd_jax.training.moments import snapshot_steps
from nd_jax.training.run import Run, Trained, Window

Tree = Any
Arrays = Mapping[str, np.ndarray]
Example = Mapping[str, jax.Array]
Prepare = Callable[[jax.Array, Example], tuple[jax.Array, Mapping[str, jax.Array], Mapping[str, jax.Array]]]
Present = Callable[[Example], jax.Array]


@dataclasses.dataclass(frozen=True)
class Task:
    """What a classifier learns.

    Attributes:
      train, validation: arrays with one leading axis of examples, every head's labels (integers) under the head's name.
        Without a validation part the variables of the last step are kept, instead of those of the best evaluation.
      prepare: for training; (key, one example of `train`) -> the network input (no batch axis), {head: label (an
        integer, or the shares of all classes)}, and {head: weight} for heads that some examples have no label for.
        Pure; all randomness from the key.
      present: for evaluation; one example -> the network input, nothing random.
      heads: {head: number of classes}.
      head_weights: {head: weight of its loss}, and of its accuracy in the validation score.
    """

    train: Arrays
    validation: Arrays | None
    prepare: Prepare
    present: Present
    heads: Mapping[str, int]
    head_weights: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Settings:
    """How it is learned.

    Attributes:
      steps: number of optimizer steps.
      batch_size: examples per step, over all devices.
      learning_rate: peak; linear warm-up over the first tenth of the steps (at most 200), then a cosine down to 1 %.
      weight_decay: AdamW's, on kernels only.
      clip: largest global norm of the gradient.
      smoothing: label smoothing.
      eval_every: steps between evaluations on the validation part (if there is one), each followed by a checkpoint.
      patience: evaluations without a better score after which training stops; 0 never stops early.
      steps_per_call: steps of one compiled call; 0 chooses 1 on CPU and 8 on accelerators (see `parallel.several`).
      fetch_every: steps between looks at the metrics, which make the host wait for the devices.
      check_replicas: debug: stop when the devices' copies of the parameters differ.
      seed: of parameters, data order, augmentation and dropout.
      history: how many log-spaced moments of the training are handed to `keep`; 0 for none.
    """

    steps: int = 1000
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    clip: float = 1.0
    smoothing: float = 0.05
    eval_every: int = 100
    patience: int = 0
    steps_per_call: int = 0
    fetch_every: int = 20
    check_replicas: bool = False
    seed: int = 0
    history: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "eval_every", "fetch_every", "learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        for name in ("patience", "steps_per_call", "weight_decay", "history"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, and is {getattr(self, name)}")


def train(
    module: nn.Module,
    task: Task,
    settings: Settings,
    *,
    folder: Any = None,
    recipe: Mapping[str, Any] | None = None,
    devices: Sequence[jax.Device] | None = None,
    progress: bool = True,
    keep: Callable[[int, Tree], None] | None = None,
) -> Trained:
    """Trains a classifier; goes on where an earlier run in the same folder was interrupted.

    Args:
      module: Flax module, `module(x, train=...)` -> logits, or {head: logits} for several heads.
      task: what is learned.
      settings: how.
      folder: where checkpoints and `metrics.jsonl` go; None keeps nothing on disk.
      recipe: what else must be the same for a run to go on, beside the settings; plain values by name.
      devices: local devices to use, default all.
      progress: whether a bar with the remaining time is drawn on stderr.
      keep: told (step, variables) at `settings.history` moments, the start and the end among them.

    Returns:
      The variables of the best evaluation; of the last step when there is nothing to evaluate on.

    Raises:
      TrainingError: the loss is not finite (names the step), or replicas differ under `check_replicas`.
      CheckpointError: a checkpoint cannot be written, or the one found does not fit.
      ValueError: the folder holds a run with other settings, or the batch does not fit the data or the devices.
    """
    # --- data ---------------------------------------------------------------------------------------------------------
    devices = list(devices or jax.local_devices())
    order = parallel.batches(task.train, devices, batch_size=settings.batch_size, seed=settings.seed)
    order()  # refuses arrays and batch sizes that do not fit before anything compiles
    if settings.patience and task.validation is None:
        raise ValueError(f"patience {settings.patience} needs a validation part to wait for, and this task has none")

    # --- model --------------------------------------------------------------------------------------------------------
    optimizer = make_optimizer(settings)
    state = initial_state(module, task, optimizer, settings)
    predict = predictor(module, task.present)

    # --- step ---------------------------------------------------------------------------------------------------------
    step = make_step(module, task, optimizer, settings)
    one = parallel.data_parallel(step, devices)
    several = parallel.data_parallel(parallel.several(step), devices)
    per_call = settings.steps_per_call or (1 if devices[0].platform == "cpu" else 8)

    # --- checkpoint ---------------------------------------------------------------------------------------------------
    deciding = {name: value for name, value in dataclasses.asdict(settings).items() if name != "history"}
    run = Run(folder, {**(recipe or {}), **deciding}, settings.patience, state)
    state = parallel.replicate(run.state, devices)

    moments = snapshot_steps(settings.steps, settings.history, settings.eval_every) if keep is not None else ()

    # --- loop ---------------------------------------------------------------------------------------------------------
    if keep is not None and moments and run.done == 0:
        keep(0, jax.device_get({"params": run.state["params"], **run.state["collections"]}))
    with run, hosts.bar(settings.steps, run.done, progress) as bar, data.prefetch(order(position=run.done)) as stream:
        while run.done < settings.steps and not run.exhausted:
            until = min(run.done - run.done % settings.eval_every + settings.eval_every, settings.steps)
            window, pending = Window(run.done), 0
            while window.end < until:
                size = min(per_call, until - window.end)
                batches = [next(stream) for _ in range(size)]
                if size == 1:
                    state, metrics = one(state, batches[0])
                else:
                    state, metrics = several(state, jax.tree.map(lambda *leaves: np.stack(leaves, axis=1), *batches))
                window.add(metrics, size)
                pending += size
                if pending >= settings.fetch_every or window.end == until:
                    bar.set_postfix(window.check(), refresh=False)
                    bar.update(pending)
                    pending = 0

            # --- evaluation -------------------------------------------------------------------------------------------
            variables = {"params": state["params"], **state["collections"]}
            run.evaluated(until, window, accuracies(predict, variables, task), task.head_weights, variables)
            if keep is not None and (run.done in moments or (moments and run.exhausted)):
                keep(run.done, jax.device_get(variables))
            run.save(state)
    return run.result()


def make_optimizer(settings: Settings) -> optax.GradientTransformation:
    """AdamW behind a global-norm clip, with warm-up and cosine decay; the decay spares biases and scales."""
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=settings.learning_rate,
        warmup_steps=min(200, max(settings.steps // 10, 1)),
        decay_steps=max(settings.steps, 2),
        end_value=0.01 * settings.learning_rate,
    )

    def kernels(params: Tree) -> Tree:
        return jax.tree.map(lambda leaf: leaf.ndim > 1, params)

    return optax.chain(
        optax.clip_by_global_norm(settings.clip),
        optax.adamw(schedule, weight_decay=settings.weight_decay, mask=kernels),
    )


def initial_state(
    module: nn.Module, task: Task, optimizer: optax.GradientTransformation, settings: Settings
) -> dict[str, Tree]:
    """A fresh training state: {"step", "params", "collections" (batch statistics, ...), "optimizer"}."""
    example = {name: values[0] for name, values in task.train.items()}
    x = jax.eval_shape(task.present, example)
    variables = jax.jit(functools.partial(module.init, train=False))(
        jax.random.key(settings.seed), jnp.zeros((1, *x.shape), x.dtype)
    )
    params = variables["params"]
    collections = {name: tree for name, tree in variables.items() if name != "params"}
    return {
        "step": jnp.zeros((), jnp.int32),
        "params": params,
        "collections": collections,
        "optimizer": optimizer.init(params),
    }


def make_step(
    module: nn.Module, task: Task, optimizer: optax.GradientTransformation, settings: Settings
) -> parallel.Step:
    """One optimizer step as a plain function of (state, batch), for `parallel.data_parallel`.

    The batch holds this device's examples, {"index": (batch,), ...}; the metrics are means over all devices:
    {"loss", "gradient_norm", "accuracy": {head}}, and "spread" under `check_replicas`.
    """
    heads = tuple(task.heads)

    def step(state: Tree, batch: Tree) -> tuple[Tree, Tree]:
        keys = parallel.example_keys(settings.seed, state["step"], batch["index"])
        prepare_keys, dropout_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
        examples = {name: values for name, values in batch.items() if name != "index"}
        # Without the barrier XLA's CPU backend fuses the preparation into the network and runs three times slower.
        x, labels, weights = jax.lax.optimization_barrier(jax.vmap(task.prepare)(prepare_keys, examples))

        def loss_of(params: Tree) -> tuple[jax.Array, Any]:
            variables = {"params": params, **state["collections"]}
            with parallel.same_on_any_number_of_devices(dropout_keys):
                logits, changed = module.apply(variables, x, train=True, mutable=list(state["collections"]))
            logits = as_heads(logits, heads)
            total, _ = losses.heads_cross_entropy(
                logits,
                labels,
                head_weights=task.head_weights,
                example_weights=weights,
                smoothing=settings.smoothing,
                mean=parallel.mean,
            )
            return total, (changed, logits)

        (loss, (changed, logits)), gradients = jax.value_and_grad(loss_of, has_aux=True)(state["params"])
        gradients = parallel.mean(gradients)
        updates, optimizer_state = optimizer.update(gradients, state["optimizer"], state["params"])
        state = {
            "step": state["step"] + 1,
            "params": optax.apply_updates(state["params"], updates),
            "collections": parallel.mean(changed),
            "optimizer": optimizer_state,
        }
        right = {head: losses.accuracy(logits[head], labels[head], weights.get(head)) for head in heads}
        metrics = parallel.mean({"loss": loss, "accuracy": right}) | {"gradient_norm": optax.tree.norm(gradients)}
        if settings.check_replicas:
            metrics["spread"] = parallel.spread(state["params"])
        return state, metrics

    return step


def as_heads(logits: Any, heads: Sequence[str]) -> dict[str, jax.Array]:
    """The output of a network as {head: logits}, also when it has one head and so gives a plain array."""
    return dict(logits) if isinstance(logits, Mapping) else {heads[0]: logits}


def predictor(module: nn.Module, present: Present, batch_size: int = 64) -> Callable[[Tree, Arrays], Any]:
    """A function (variables, arrays) -> outputs in eval mode, numpy, for any number of examples.

    Args:
      module: Flax module, `module(x, train=False)`.
      present: one example -> the network input.
      batch_size: examples per compiled call; the last batch is padded, so there is one program.
    """

    @jax.jit
    def forward(variables: Tree, examples: Tree) -> Any:
        x = jax.lax.optimization_barrier(jax.vmap(present)(examples))
        return module.apply(variables, x, train=False)

    def predict(variables: Tree, arrays: Arrays) -> Any:
        total = _count(arrays)
        outputs = []
        for start in range(0, total, batch_size):
            index = np.arange(start, start + batch_size) % total
            outputs.append(jax.device_get(forward(variables, {name: values[index] for name, values in arrays.items()})))
        return jax.tree.map(lambda *parts: np.concatenate(parts)[:total], *outputs)

    return predict


def accuracies(predict: Callable[[Tree, Arrays], Any], variables: Tree, task: Task) -> dict[str, float] | None:
    """{head: share of the validation examples that it gets right}, or None when there is no validation part."""
    if task.validation is None:
        return None
    labels = task.validation
    logits = as_heads(predict(variables, labels), tuple(task.heads))
    return {head: float(np.mean(np.argmax(logits[head], axis=-1) == labels[head])) for head in sorted(task.heads)}


def _count(arrays: Arrays) -> int:
    sizes = {name: len(values) for name, values in arrays.items()}
    if len(set(sizes.values())) != 1:
        raise ValueError(f"the arrays of a task have different numbers of examples: {sizes}")
    return next(iter(sizes.values()))
