"""What is tried for lanes whose unit did not answer, before they are called dead.

A lane is dead when its score never had a gradient, or has none at the end and is no better than it began. Then, in this
order, each lane for itself and so whatever the batch around it:

1. A network whose ReLUs are `nd_jax.networks.layers.Relu` runs again with redirected gradients (Lucid).
2. The unit is tried on many starts (other seeds, growing in strength) and on the probing inputs that excite it most;
   the run is repeated from whichever answers most.

What does not answer to any of these is dead, and says how much was tried.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.domain import Parts
from nd_jax.networks.layers import has_relu
from nd_jax.visualize import leaving, parameterizations, program
from nd_jax.visualize.run import Piece, Run

if TYPE_CHECKING:
    from nd_jax.domain import Domain
    from nd_jax.network import Network

STARTS = 64
OWN, REDIRECTED = "own", "own, redirected gradients"

# Steps with redirected gradients after which a lane without one of its own is given up.
_PATIENCE = 8 * program.REDIRECTED_STEPS
# Probing inputs that are tried as starts, the best first.
_PROBES = 4
_RESTART = 0xFFFFFFFE


def find_dead(run: Run, piece: Piece) -> np.ndarray:
    """(n,) bool: which lanes of a piece did not answer; lanes that failed or were interrupted are not called dead."""
    complete = _whole(run, piece) & (run.steps > 0)
    dead = complete & ~piece.moved
    doubtful = np.flatnonzero(complete & piece.moved & (piece.stuck > 0))
    if len(doubtful):
        began = run.first_scores(piece.lanes[doubtful])
        loud = run.respond(piece.lanes[doubtful], jax.tree.map(lambda leaf: leaf[doubtful], piece.parameters))[2]
        dead[doubtful] = ~loud | np.all(_rows(piece.scores[doubtful]) <= _rows(began), axis=-1)
    return dead


def rescue(
    run: Run, dead: np.ndarray, probes: Any, starts: int, tick: Callable[[int], None], given: Any = None
) -> tuple[list[tuple[Piece, list[str]]], str]:
    """Runs dead lanes again.

    Args:
      run: the run that they are lanes of.
      dead: their places in the run.
      probes: (m, *shape) inputs to listen to, or None.
      starts: how many other starts each is tried on.
      tick: told of lane-steps that are done.
      given: the parameters that the lanes were started from, (len(dead), ...), or None.

    Returns:
      The lanes that came to life, in pieces, each with where its lanes started; and what was tried, in words.
    """
    found: list[tuple[Piece, list[str]]] = []
    network = run.network
    batch = jax.tree.map(lambda leaf: leaf[None], network.input.silence())
    if has_relu(network.module, network.variables, batch, **dict(network.apply_kwargs)):
        plan = run.plan._replace(redirect=True)
        alive = []
        for piece in run.pieces(dead, tick, plan=plan, start=given, early=min(_PATIENCE, run.steps)):
            good = piece.early & ~find_dead(run, piece) & _whole(run, piece)
            found.append((_rows_of(piece, good), [REDIRECTED] * int(good.sum())))
            alive.append(good)
        kept = np.concatenate(alive)
        dead = dead[: len(kept)][~kept]
    words = f"{starts} starts" + _heard(probes)
    if not len(dead) or not starts or run.interrupted:
        return found, words
    parameters, names, answers = _best_starts(run, dead, probes, starts)
    lanes, parameters = dead[answers], jax.tree.map(lambda leaf: leaf[answers], parameters)
    names = [name for name, answer in zip(names, answers, strict=True) if answer]
    done = 0
    for piece in run.pieces(lanes, tick, start=parameters) if len(lanes) else ():
        good = _whole(run, piece)
        part = names[done : done + len(good)]
        done += len(good)
        found.append((_rows_of(piece, good), [name for name, ok in zip(part, good, strict=True) if ok]))
    return found, words


def _whole(run: Run, piece: Piece) -> np.ndarray:
    return (piece.failed < 0) & (piece.reason != leaving.INTERRUPTED)


def _best_starts(run: Run, dead: np.ndarray, probes: Any, starts: int) -> tuple[Any, list[str], np.ndarray]:
    """For each lane the start with the highest score among those that have a gradient, and whether there is one."""
    domain = run.network.input
    best: list[Any] = [None] * len(dead)
    names = [""] * len(dead)
    scores = np.full(len(dead), -np.inf)

    def consider(candidates: Any, places: np.ndarray, lane: int, titles: list[str]) -> None:
        found, answers, _ = run.respond(places, candidates)
        ranked = np.where(answers & np.isfinite(found), found, -np.inf)
        at = int(np.argmax(ranked))
        if ranked[at] > scores[lane]:
            scores[lane], names[lane] = ranked[at], titles[at]
            best[lane] = jax.tree.map(lambda leaf: np.asarray(leaf[at]), candidates)

    titles = [f"seed {number}" for number in range(1, starts + 1)]
    for lane, place in enumerate(dead):
        consider(_seeds(run.plan, domain, run.keys[place], starts), np.full(starts, place), lane, titles)
    if probes is not None and hasattr(run.plan.parameterization, "invert"):
        for lane, (place, row) in enumerate(zip(dead, _best_probes(run, dead, probes), strict=True)):
            candidates = _from_probes(run.plan, domain, probes, row)
            consider(candidates, np.full(len(row), place), lane, [f"probe {int(each.flat[0])}" for each in row])
    answers = np.isfinite(scores)
    example = next((each for each in best if each is not None), None)
    if example is None:
        return None, names, answers
    filled = [example if each is None else each for each in best]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *filled), names, answers


def _seeds(plan: program.Plan, domain: Domain, keys: jax.Array, starts: int) -> Any:
    """Parameters (starts, ...) of other starts of one lane, as strong as its own up to thirty-two times as strong."""
    numbers = jnp.arange(1, starts + 1)
    bounded = all(math.isfinite(end) for end in _ends(domain))
    # What is free in a prior follows a law of its own, whatever the bounds of the domain.
    grows = bounded and getattr(plan.parameterization, "grows", True)
    strength = 2.0 ** (numbers % 6) if grows else jnp.ones(starts)

    def one(number: jax.Array, factor: jax.Array) -> Any:
        def fold(key: jax.Array) -> jax.Array:
            return jax.random.fold_in(jax.random.fold_in(key, _RESTART), number)

        other = fold(keys) if plan.inputs == 1 else jax.vmap(fold)(keys)
        return jax.tree.map(lambda leaf: leaf * factor, program.start_lane(plan, domain, other))

    return jax.device_get(jax.vmap(one)(numbers, strength))


def _ends(domain: Domain) -> list[float]:
    parts = domain.parts.values() if isinstance(domain, Parts) else (domain,)
    return [end for part in parts for end in (part.low, part.high)]


def _best_probes(run: Run, dead: np.ndarray, probes: Any) -> np.ndarray:
    """(lanes, candidates, inputs a lane) the probing inputs on which each lane scores highest."""
    total = _count(probes)
    arrays = jax.tree.map(jnp.asarray, run.lanes.select(dead).arrays)
    # Probes are inputs: how inputs are made plays no part, nor do the arrays that it takes.
    plan = run.plan._replace(inputs=1, parameterization=None, penalties=())
    columns = []
    for first in range(0, total, run.size):
        # Filled up with the first, so that one program serves all.
        rows = (np.arange(first, first + run.size) % total).astype(int)
        x = jax.tree.map(lambda leaf, rows=rows: jnp.asarray(leaf[rows], jnp.float32), probes)
        scores = np.asarray(_listen(plan, run.network, x, arrays))
        columns.append(scores[:, : min(run.size, total - first)])
    order = np.argsort(-np.concatenate(columns, axis=1), axis=1, kind="stable")
    wanted = np.add.outer(np.arange(min(_PROBES, total)), np.arange(run.plan.inputs)) % total
    return order[:, wanted]


@functools.partial(jax.jit, static_argnums=0)
def _listen(plan: program.Plan, network: Network, x: Any, arrays: Any) -> jax.Array:
    """(lanes, probes) scores; each probe is a batch of its own, and the network hears it once for all lanes."""

    def one(example: Any) -> jax.Array:
        return jax.vmap(lambda values: program.score_of(plan, network, example, values)[0])(arrays)

    return jax.vmap(one, out_axes=1)(x)


def _from_probes(plan: program.Plan, domain: Domain, probes: Any, rows: np.ndarray) -> Any:
    """Parameters (candidates, ...) that make the given probing inputs, rows (candidates, inputs)."""
    chosen = jax.tree.map(lambda leaf: jnp.asarray(leaf[rows], jnp.float32), probes)
    invert = jax.vmap(jax.vmap(lambda x: parameterizations.invert(plan.parameterization, x, domain)))
    found = invert(chosen)
    return jax.device_get(jax.tree.map(lambda leaf: leaf[:, 0], found) if plan.inputs == 1 else found)


def _heard(probes: Any) -> str:
    if probes is None:
        return ""
    return f" and {_count(probes)} probing input{'s' if _count(probes) > 1 else ''}"


def _count(tree: Any) -> int:
    return len(jax.tree.leaves(tree)[0])


def _rows(scores: np.ndarray) -> np.ndarray:
    return np.asarray(scores).reshape(len(scores), -1)


def _rows_of(piece: Piece, chosen: np.ndarray) -> Piece:
    return jax.tree.map(lambda leaf: leaf if np.ndim(leaf) == 0 else leaf[chosen], piece)
