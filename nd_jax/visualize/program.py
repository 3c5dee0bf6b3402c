"""What one lane does in one step, and the compiled programs over a chunk of lanes.

Everything here is traced: `run` drives it from the host. A lane holds one input, or `Plan.inputs` of them, which the
network sees as one batch of its own; nothing is shared between lanes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, PartitionSpec

from nd_jax import taps
from nd_jax.networks.layers import redirected_gradients
from nd_jax.visualize import narrow, objectives
from nd_jax.visualize.arguments import Program, Still, joined

if TYPE_CHECKING:
    from nd_jax.network import Network

LANES = "lanes"

# A lane that gets no gradient is given redirected ones for so many steps before it is looked at again (Lucid: 16).
REDIRECTED_STEPS = 16


class Plan(NamedTuple):
    """Everything static about a run: what decides the compiled program.

    Attributes:
      spec: `objectives.Bound.spec`.
      parameterization, transforms, penalties, optimizer: as in `visualize_batch`.
      inputs: inputs a lane.
      redirect: whether a lane without a gradient gets the redirected gradients of its ReLUs.
    """

    spec: Any
    parameterization: Any
    transforms: tuple[Any, ...]
    penalties: tuple[Any, ...]
    optimizer: optax.GradientTransformation
    inputs: int = 1
    redirect: bool = False


class Goal(NamedTuple):
    """What a lane climbs, stacked over a chunk.

    Attributes:
      terms: `objectives.Bound.arrays`.
      scale: factor on the penalties.
    """

    terms: Any
    scale: Any


class Clock(NamedTuple):
    """Where in the run a step is, scalars.

    Attributes:
      step: number of the step.
      total: steps of the run.
      polish: the step from which on there are no transforms.
    """

    step: jax.Array
    total: jax.Array
    polish: jax.Array


class Lane(NamedTuple):
    """The state of one lane; stacked over a chunk.

    Attributes:
      parameters: the free parameters, with a leading axis of inputs where a lane holds several.
      optimizer: the Optax state.
      failed: the step at which a number stopped being finite, or -1.
      moved: whether the score ever had a gradient.
      stuck: steps with redirected gradients that are left; above 0 after a step at which the score had no gradient.
    """

    parameters: Any
    optimizer: Any
    failed: jax.Array
    moved: jax.Array
    stuck: jax.Array


def _lane_step(plan: Plan, network: Network, lane: Lane, goal: Goal, keys: jax.Array, clock: Clock) -> Lane:
    domain = network.input
    redirected = lane.stuck > 0 if plan.redirect else None

    def score(x: Any) -> tuple[jax.Array, jax.Array]:
        shaken = _shaken(plan, keys, clock, x, domain)
        scores, floors = score_of(plan, network, shaken, goal.terms, redirected)
        # Summed, so that the gradient of one input does not depend on how many there are.
        return jnp.sum(scores), jnp.any(jnp.abs(scores) > floors)

    x, back = jax.vjp(lambda parameters: _stirred(plan, keys, clock, parameters, domain), lane.parameters)
    climb, loud = jax.grad(score, has_aux=True)(x)
    # The score's own gradient, not that of the penalties, says whether the unit answers at all.
    answers = _answers(plan, climb, loud)
    downhill = jax.tree.map(jnp.negative, climb)
    if not all(map(_of_parameters, plan.penalties)):
        cost = jax.grad(lambda x: goal.scale * _penalty(plan, clock, x, domain))(x)
        downhill = jax.tree.map(jnp.add, downhill, cost)
    (gradient,) = back(downhill)
    if any(map(_of_parameters, plan.penalties)):
        cost = jax.grad(lambda free: goal.scale * _parameter_penalty(plan, clock, free, domain))(lane.parameters)
        gradient = jax.tree.map(jnp.add, gradient, cost)
    gradient = _held(plan, gradient, clock)
    updates, state = plan.optimizer.update(gradient, _refreshed(plan, lane, clock), lane.parameters)
    parameters = optax.apply_updates(lane.parameters, updates)
    finite = _all_finite((gradient, parameters)) & (lane.failed < 0)

    def keep(new: Any, old: Any) -> Any:
        return jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)

    honest = lane.stuck == 0 if plan.redirect else True
    stuck = jnp.where(honest, jnp.where(answers, 0, REDIRECTED_STEPS), lane.stuck - 1)
    failed = jnp.where(finite | (lane.failed >= 0), lane.failed, clock.step)
    return Lane(
        keep(parameters, lane.parameters), keep(state, lane.optimizer), failed, lane.moved | (honest & answers), stuck
    )


def _refreshed(plan: Plan, lane: Lane, clock: Clock) -> Any:
    """The optimizer state of a lane, its memory of shaken gradients forgotten when the polish begins.

    Adam's mean square of those is so much larger that polishing would crawl: of 108 planted units (`nd_jax.bench`) that
    are polished through their spectrum, 20 then miss their optimum, 4 with this. Counts, which schedules follow, go on.
    """
    if not (plan.transforms or getattr(plan.parameterization, "polishes", False)):
        return lane.optimizer

    def fresh(new: Any, old: Any) -> Any:
        old = jnp.asarray(old)
        return jnp.where(clock.step == clock.polish, new, old) if jnp.issubdtype(old.dtype, jnp.floating) else old

    return jax.tree.map(fresh, plan.optimizer.init(lane.parameters), lane.optimizer)


def _held(plan: Plan, gradient: Any, clock: Clock) -> Any:
    """The gradient of what a parameterization lets move at this step."""
    if not getattr(plan.parameterization, "polishes", False):
        return gradient
    return _each(plan, lambda one: plan.parameterization.hold(one, clock.step >= clock.polish))(gradient)


def _each(plan: Plan, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of one input as a function of a lane's inputs."""
    return function if plan.inputs == 1 else jax.vmap(function)


def _render(plan: Plan, parameters: Any, domain: Any) -> Any:
    return _each(plan, lambda one: plan.parameterization.apply(one, domain))(parameters)


def _stirred(plan: Plan, keys: jax.Array, clock: Clock, parameters: Any, domain: Any) -> Any:
    """A lane's inputs, made from latents after the latent transforms of this step; as they are while polished."""
    stirs = [(place, item) for place, item in enumerate(plan.transforms) if stirs_latent(plan, item)]
    if not stirs:
        return _render(plan, parameters, domain)

    def one(key: jax.Array, free: Any) -> Any:
        step_key = jax.random.fold_in(key, clock.step)

        def stir(z: jax.Array) -> jax.Array:
            moved = z
            for place, item in stirs:
                moved = item(jax.random.fold_in(step_key, place), moved, plan.parameterization.latent)
            return jnp.where(clock.step < clock.polish, moved, z)

        return plan.parameterization.apply(free, domain, stir)

    return one(keys, parameters) if plan.inputs == 1 else jax.vmap(one)(keys, parameters)


def stirs_latent(plan: Plan, transform: Any) -> bool:
    """Whether a transform perturbs the latent that inputs are made from, and not the inputs themselves."""
    return getattr(transform, "of_latent", False) and hasattr(plan.parameterization, "latent")


def _typed(x: Any, domain: Any) -> Any:
    """x as the network takes it: up to here classes are floating-point numbers too, so that everything has a slope."""
    return jax.tree.map(lambda leaf, kind: leaf.astype(kind), x, domain.dtype)


def _shaken(plan: Plan, keys: jax.Array, clock: Clock, x: Any, domain: Any) -> Any:
    """A lane's inputs after the transforms of this step; as they are while they are polished."""
    moves = [(place, item) for place, item in enumerate(plan.transforms) if not stirs_latent(plan, item)]
    if not moves:
        return x

    def shake(key: jax.Array, one: Any) -> Any:
        step_key = jax.random.fold_in(key, clock.step)
        for place, transform in moves:
            one = transform(jax.random.fold_in(step_key, place), one, domain)
        return one

    return jax.lax.cond(clock.step < clock.polish, _each(plan, shake), lambda keys, x: x, keys, x)


def _penalty(plan: Plan, clock: Clock, x: Any, domain: Any) -> jax.Array:
    total = jnp.zeros((), jnp.float32)
    for item in plan.penalties:
        if _of_parameters(item):
            continue
        if getattr(item, "couples", False):
            value = item(x, domain)
        else:
            value = jnp.sum(_each(plan, lambda one, item=item: item(one, domain))(x))
        total = total + _weight_now(item, clock) * value
    return total


def _parameter_penalty(plan: Plan, clock: Clock, parameters: Any, domain: Any) -> jax.Array:
    total = jnp.zeros((), jnp.float32)
    for item in filter(_of_parameters, plan.penalties):
        one = _each(plan, lambda each, item=item: item.of(plan.parameterization, each, domain))
        total = total + _weight_now(item, clock) * jnp.sum(one(parameters))
    return total


def _of_parameters(penalty: Any) -> bool:
    return getattr(penalty, "of_parameters", False)


def _weight_now(penalty: Any, clock: Clock) -> jax.Array:
    """A penalty with `until` counts in full in that first share of the steps only (`penalties.early`)."""
    counts = clock.step < getattr(penalty, "until", 1.0) * clock.total
    return penalty.weight * jnp.where(counts, 1.0, getattr(penalty, "rest", 0.0))


def score_of(
    plan: Plan, network: Network, x: Any, terms: Any, redirected: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """The score of a lane's input, (), or of its inputs, (inputs,); and what of it may be rounding, the same shape."""
    names = objectives.layers_of(plan.spec)
    batch = _typed(jax.tree.map(lambda leaf: leaf[None], x) if plan.inputs == 1 else x, network.input)
    with redirected_gradients(redirected):
        alone = narrow.forward(plan.spec, terms, network, batch)
        activations, terms = alone if alone is not None else (taps.forward(network, batch, names)[1], terms)

    read = {name: activations[name] for name in names}
    scores = objectives.evaluate_inputs(plan.spec, terms, read)
    floors = jax.vmap(lambda values: objectives.noise_floor(plan.spec, terms, values))(read)
    return (scores[0], floors[0]) if plan.inputs == 1 else (scores, floors)


def _answers(plan: Plan, climb: Any, loud: jax.Array) -> jax.Array:
    """Whether a score that has the gradient `climb`, and is `loud` against its rounding, is one."""
    return _any_nonzero(climb) & loud if objectives.may_cancel(plan.spec) else _any_nonzero(climb)


def _any_nonzero(tree: Any) -> jax.Array:
    return jnp.any(jnp.stack([jnp.any(leaf != 0) for leaf in jax.tree.leaves(tree)]))


def _all_finite(tree: Any) -> jax.Array:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


def start_lane(plan: Plan, domain: Any, keys: jax.Array) -> Any:
    """The first parameters of one lane."""
    return _each(plan, lambda key: plan.parameterization.init(jax.random.fold_in(key, 0xFFFFFFFF), domain))(keys)


def _fresh(plan: Plan, parameters: Any) -> Lane:
    lanes = len(jax.tree.leaves(parameters)[0])
    state = jax.vmap(plan.optimizer.init)(parameters)
    none = jnp.zeros(lanes, jnp.int32)
    return Lane(parameters, state, none - 1, jnp.zeros(lanes, bool), none)


def _initialise(plan: Plan, network: Network, keys: jax.Array) -> Lane:
    return _fresh(plan, jax.vmap(lambda each: start_lane(plan, network.input, each))(keys))


def _resume(plan: Plan, parameters: Any) -> Lane:
    return _fresh(plan, parameters)


def _advance(
    plan: Plan, count: int, network: Network, lane: Lane, goal: Goal, keys: jax.Array, clock: Clock
) -> tuple[Lane, jax.Array]:
    along = jax.vmap(_lane_step, in_axes=(None, None, 0, 0, 0, None))

    def body(state: Lane, moment: jax.Array) -> tuple[Lane, None]:
        return along(plan, network, state, goal, keys, clock._replace(step=moment)), None

    if count == 1:
        lane = body(lane, clock.step)[0]
    else:
        lane = jax.lax.scan(body, lane, clock.step + jnp.arange(count, dtype=jnp.int32))[0]
    return lane, jnp.copy(lane.moved)


def _evaluate(plan: Plan, network: Network, parameters: Any, goal: Goal) -> tuple[Any, jax.Array]:
    def one(parameters: Any, terms: Any) -> tuple[Any, jax.Array]:
        x = _render(plan, parameters, network.input)
        return _typed(x, network.input), score_of(plan, network, x, terms)[0]

    return jax.vmap(one)(parameters, goal.terms)


def _respond(plan: Plan, network: Network, parameters: Any, goal: Goal) -> tuple[jax.Array, jax.Array, jax.Array]:
    def one(parameters: Any, terms: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        x = _render(plan, parameters, network.input)

        def score(x: Any) -> tuple[jax.Array, jax.Array]:
            scores, floors = score_of(plan, network, x, terms)
            return jnp.sum(scores), jnp.any(jnp.abs(scores) > floors)

        (value, loud), climb = jax.value_and_grad(score, has_aux=True)(x)
        return value, _answers(plan, climb, loud), loud

    return jax.vmap(one)(parameters, goal.terms)


class Programs(NamedTuple):
    """The compiled programs over a chunk of lanes; made by `programs`, one set for each set of devices.

    Attributes:
      initialise: (plan, network, keys) -> the first state, one lane for each row of keys.
      resume: (plan, parameters (lanes, ...)) -> the first state of lanes that start from given parameters.
      advance: (plan, count, network, lane, goal, keys, clock) -> the state `count` steps later, and a small array to
        wait for. The old state is given away.
      evaluate: (plan, network, parameters, goal) -> the inputs (lanes, ...) and their scores, without transforms.
      respond: (plan, network, parameters, goal) -> scores, whether the score has a gradient there, and whether it is
        more than rounding; all (lanes,).
    """

    initialise: Program
    resume: Program
    advance: Program
    evaluate: Program
    respond: Program


@functools.lru_cache(maxsize=16)
def programs(mesh: Mesh | None) -> Programs:
    """The programs for one device, or with the lanes of a chunk spread over the devices of a mesh."""
    lanes, whole = PartitionSpec(LANES), PartitionSpec()

    def compiled(function: Any, static: int, specs: tuple[Any, ...], **settings: Any) -> Program:
        def spread(still: Still, arrays: Any, *arguments: Any) -> Any:
            fixed, traced = arguments[: static - 1], arguments[static - 1 :]

            def local(arrays: Any, *traced: Any) -> Any:
                return function(joined(still, arrays), *fixed, *traced)

            if mesh is None:
                return local(arrays, *traced)
            # Each device runs its share of the lanes by itself: there is nothing to communicate.
            split = jax.shard_map(local, mesh=mesh, in_specs=(whole, *specs), out_specs=lanes, check_vma=False)
            return split(arrays, *traced)

        spread.__name__ = function.__name__.lstrip("_")
        fixed = (0, *range(2, static + 1))
        return Program(jax.jit(spread, static_argnums=fixed, compiler_options=_options(), **settings))

    return Programs(
        compiled(_initialise, 1, (whole, lanes)),
        compiled(_resume, 1, (lanes,)),
        compiled(_advance, 2, (whole, lanes, lanes, lanes, whole), donate_argnums=4),
        compiled(_evaluate, 1, (whole, lanes, lanes)),
        compiled(_respond, 1, (whole, lanes, lanes)),
    )


@functools.cache
def _options() -> dict[str, str] | None:
    """Compiler options under which a lane's bits do not depend on the size of its chunk.

    XLA's CPU backend hands softmax-like chains of operations to a library (YNNPACK) that is chosen by size and adds in
    another order; attention drifts by 1e-4 in 60 steps. An XLA that does not know the option does without.
    """
    if jax.default_backend() != "cpu":
        return None
    options = {"xla_cpu_experimental_ynn_fusion_type": ""}
    try:
        jax.jit(lambda x: x + 1, compiler_options=options)(jnp.zeros(()))
    except jax.errors.JaxRuntimeError:
        return None
    return options
