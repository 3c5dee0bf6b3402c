"""What one lane does in one step, and the compiled programs over a chunk of lanes.

Everything here is traced: `run` drives it from the host. A lane holds one input, or `Plan.inputs` of them, which the
network sees as one batch of its own; nothing is shared between lanes.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, PartitionSpec

from nd_jax import taps
from nd_jax.networks.layers import redirected_gradients
from nd_jax.runtime import steady_options
from nd_jax.visualize import costs, leaving, narrow, objectives
from nd_jax.visualize.arguments import Program, Still, joined
from nd_jax.visualize.costs import each
from nd_jax.visualize.shaking import render, shaken, stirred

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
      paced: whether each lane has a clock of its own, and stops by itself (`leaving`).
    """

    spec: Any
    parameterization: Any
    transforms: tuple[Any, ...]
    penalties: tuple[Any, ...]
    optimizer: optax.GradientTransformation
    inputs: int = 1
    redirect: bool = False
    paced: bool = False


class Goal(NamedTuple):
    """What a lane climbs, stacked over a chunk.

    Attributes:
      terms: `objectives.Bound.arrays`.
      scale: factor on the penalties.
      strengths: factors on each penalty, then chances of each transform; None where all are 1.
    """

    terms: Any
    scale: Any
    strengths: Any = None


class Clock(NamedTuple):
    """Where in the run a step is, scalars.

    Attributes:
      step: number of the step.
      total: steps of the run.
      polish: the step from which on there are no transforms.
      rule: when a lane with a clock of its own, which then stands for `step`, stops.
    """

    step: jax.Array
    total: jax.Array
    polish: jax.Array
    rule: leaving.Rule | None = None


class Lane(NamedTuple):
    """The state of one lane; stacked over a chunk.

    Attributes:
      parameters: the free parameters, with a leading axis of inputs where a lane holds several.
      optimizer: the Optax state.
      failed: the step at which a number stopped being finite, or -1.
      moved: whether the score ever had a gradient.
      stuck: steps with redirected gradients that are left; above 0 after a step at which the score had no gradient.
      pace: its own clock, None where all lanes have one in common.
    """

    parameters: Any
    optimizer: Any
    failed: jax.Array
    moved: jax.Array
    stuck: jax.Array
    pace: leaving.Pace | None = None


def _lane_step(plan: Plan, network: Network, lane: Lane, goal: Goal, keys: jax.Array, clock: Clock) -> Lane:
    domain = network.input
    redirected = lane.stuck > 0 if plan.redirect else None
    if lane.pace is not None:
        clock = clock._replace(step=lane.pace.step)

    factors, chances = _strengths(plan, goal)

    def score(x: Any) -> tuple[jax.Array, jax.Array]:
        moved = shaken(plan, keys, clock, x, domain, chances)
        scores, floors = score_of(plan, network, moved, goal.terms, redirected)
        # Summed, so that the gradient of one input does not depend on how many there are.
        return jnp.sum(scores), jnp.any(jnp.abs(scores) > floors)

    x, back = jax.vjp(lambda parameters: stirred(plan, keys, clock, parameters, domain, chances), lane.parameters)
    (value, loud), climb = jax.value_and_grad(score, has_aux=True)(x)
    # The score's own gradient, not that of the penalties, says whether the unit answers at all.
    answers = _answers(plan, climb, loud)
    downhill = jax.tree.map(jnp.negative, climb)
    if not all(map(costs.is_of_parameters, plan.penalties)):
        price, cost = jax.value_and_grad(lambda x: goal.scale * costs.of_input(plan, clock, x, domain, factors))(x)
        value, downhill = value - price, jax.tree.map(jnp.add, downhill, cost)
    (gradient,) = back(downhill)
    if any(map(costs.is_of_parameters, plan.penalties)):
        price, cost = jax.value_and_grad(
            lambda free: goal.scale * costs.of_parameters(plan, clock, free, domain, factors)
        )(lane.parameters)
        value, gradient = value - price, jax.tree.map(jnp.add, gradient, cost)
    gradient = _held(plan, gradient, clock)
    updates, state = plan.optimizer.update(gradient, _refreshed(plan, lane, clock), lane.parameters)
    parameters = optax.apply_updates(lane.parameters, updates)
    finite = _all_finite((gradient, parameters)) & (lane.failed < 0)
    honest = lane.stuck == 0 if plan.redirect else True
    stuck = jnp.where(honest, jnp.where(answers, 0, REDIRECTED_STEPS), lane.stuck - 1)
    failed = jnp.where(finite | (lane.failed >= 0), lane.failed, clock.step)
    moved = lane.moved | (honest & answers)
    if lane.pace is None or clock.rule is None:
        parameters, state = _kept(finite, (parameters, state), (lane.parameters, lane.optimizer))
        return Lane(parameters, state, failed, moved, stuck)
    pace = leaving.moved_on(
        lane.pace,
        clock.rule,
        value=value,
        answers=honest & answers,
        finite=finite,
        turns=_turns(plan, clock),
        total=clock.total,
    )
    going = lane.pace.reason == leaving.RUNNING
    failed = jnp.where(finite | (lane.failed >= 0), lane.failed, lane.pace.done)
    parameters, state = _kept(finite & going, (parameters, state), (lane.parameters, lane.optimizer))
    failed, moved, stuck = _kept(going, (failed, moved, stuck), (lane.failed, lane.moved, lane.stuck))
    return Lane(parameters, state, failed, moved, stuck, pace)


def _strengths(plan: Plan, goal: Goal) -> tuple[jax.Array | None, jax.Array | None]:
    """A lane's factors on the penalties and chances of the transforms."""
    if goal.strengths is None:
        return None, None
    return goal.strengths[: len(plan.penalties)], goal.strengths[len(plan.penalties) :]


def _kept(good: jax.Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(good, a, b), new, old)


def _turns(plan: Plan, clock: Clock) -> list[jax.Array]:
    """The steps at which something else is climbed than before."""
    ends = {getattr(item, "until", 1.0) for item in plan.penalties} - {1.0}
    turns = [jnp.ceil(end * clock.total).astype(jnp.int32) for end in sorted(ends)]
    return [clock.polish, *turns] if _polishes(plan) else turns


def _polishes(plan: Plan) -> bool:
    return bool(plan.transforms) or getattr(plan.parameterization, "polishes", False)


def _refreshed(plan: Plan, lane: Lane, clock: Clock) -> Any:
    """The optimizer state of a lane, its memory of shaken gradients forgotten when the polish begins.

    Adam's mean square of those is so much larger that polishing would crawl: of 108 planted units (`nd_jax.bench`) that
    are polished through their spectrum, 20 then miss their optimum, 4 with this. Counts, which schedules follow, go on.
    """
    if not _polishes(plan):
        return lane.optimizer

    def fresh(new: Any, old: Any) -> Any:
        old = jnp.asarray(old)
        return jnp.where(clock.step == clock.polish, new, old) if jnp.issubdtype(old.dtype, jnp.floating) else old

    return jax.tree.map(fresh, plan.optimizer.init(lane.parameters), lane.optimizer)


def _held(plan: Plan, gradient: Any, clock: Clock) -> Any:
    """The gradient of what a parameterization lets move at this step."""
    if not getattr(plan.parameterization, "polishes", False):
        return gradient
    return each(plan, lambda one: plan.parameterization.hold(one, clock.step >= clock.polish))(gradient)


def _typed(x: Any, domain: Any) -> Any:
    """x as the network takes it: up to here classes are floating-point numbers too, so that everything has a slope."""
    return jax.tree.map(lambda leaf, kind: leaf.astype(kind), x, domain.dtype)


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
    return each(plan, lambda key: plan.parameterization.init(jax.random.fold_in(key, 0xFFFFFFFF), domain))(keys)


def _fresh(plan: Plan, parameters: Any) -> Lane:
    lanes = len(jax.tree.leaves(parameters)[0])
    state = jax.vmap(plan.optimizer.init)(parameters)
    none = jnp.zeros(lanes, jnp.int32)
    pace = leaving.begin(lanes) if plan.paced else None
    return Lane(parameters, state, none - 1, jnp.zeros(lanes, bool), none, pace)


def _initialise(plan: Plan, network: Network, keys: jax.Array) -> Lane:
    return _fresh(plan, jax.vmap(lambda each: start_lane(plan, network.input, each))(keys))


def _resume(plan: Plan, parameters: Any) -> Lane:
    return _fresh(plan, parameters)


def _enter(plan: Plan, lane: Lane, fresh: Lane, free: jax.Array) -> Lane:
    return jax.tree.map(lambda old, new: jnp.where(free.reshape(-1, *[1] * (old.ndim - 1)), new, old), lane, fresh)


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
        x = render(plan, parameters, network.input)
        return _typed(x, network.input), score_of(plan, network, x, terms)[0]

    return jax.vmap(one)(parameters, goal.terms)


def _respond(plan: Plan, network: Network, parameters: Any, goal: Goal) -> tuple[jax.Array, jax.Array, jax.Array]:
    def one(parameters: Any, terms: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        x = render(plan, parameters, network.input)

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
      enter: (plan, lane, fresh, free) -> the state with other lanes where it is free. The old state is given away.
      evaluate: (plan, network, parameters, goal) -> the inputs (lanes, ...) and their scores, without transforms.
      respond: (plan, network, parameters, goal) -> scores, whether the score has a gradient there, and whether it is
        more than rounding; all (lanes,).
    """

    initialise: Program
    resume: Program
    advance: Program
    enter: Program
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
        return Program(jax.jit(spread, static_argnums=fixed, compiler_options=steady_options(), **settings))

    return Programs(
        compiled(_initialise, 1, (whole, lanes)),
        compiled(_resume, 1, (lanes,)),
        compiled(_advance, 2, (whole, lanes, lanes, lanes, whole), donate_argnums=4),
        compiled(_enter, 1, (lanes, lanes, lanes), donate_argnums=2),
        compiled(_evaluate, 1, (whole, lanes, lanes)),
        compiled(_respond, 1, (whole, lanes, lanes)),
    )
