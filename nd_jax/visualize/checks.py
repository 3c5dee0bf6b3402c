"""What `visualize_batch` refuses, in one sentence each and before anything is compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from nd_jax.visualize import leaving, objectives
from nd_jax.visualize.program import start_lane
from nd_jax.visualize.shaking import stirs_latent

if TYPE_CHECKING:
    from nd_jax.network import Network
    from nd_jax.visualize.program import Plan


def spread_start(start: Any, lanes: int, plan: Plan, network: Network) -> Any:
    """Starting parameters with a leading axis of lanes, from such or from those of one lane.

    Raises:
      ValueError: another structure or shape than the parameterization's.
    """
    like = jax.eval_shape(lambda keys: start_lane(plan, network.input, keys), _some_keys(plan))
    given, wanted = str(jax.tree.structure(start)), str(jax.tree.structure(like))
    if given != wanted:
        raise ValueError(f"start must have the parameterization's structure {wanted}, got {given}")

    def spread(leaf: Any, shape: Any) -> np.ndarray:
        array = np.asarray(leaf, shape.dtype)
        if not np.all(np.isfinite(array)):
            raise ValueError("start must be finite numbers, and some are not")
        if array.shape == shape.shape:
            return np.broadcast_to(array, (lanes, *array.shape))
        if array.shape == (lanes, *shape.shape):
            return array
        raise ValueError(f"start has shape {array.shape}; this parameterization takes {shape.shape} or {lanes} of them")

    return jax.tree.map(spread, start, like)


def check_settings(key: Any, *, steps: Any, chunk_size: Any, inputs_per_lane: Any, restarts: Any) -> None:
    """Raises ValueError for a key that is none, and for numbers that are not whole or too small."""
    if not isinstance(key, jax.Array):
        raise ValueError(f"key must be a JAX key, for example jax.random.key(0), got {type(key).__name__}")
    typed = jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key)
    if key.ndim != (0 if typed else 1):
        raise ValueError(f"key must be one JAX key, got keys of shape {key.shape}; every lane draws its own from it")
    least = {"steps": (steps, 0), "inputs_per_lane": (inputs_per_lane, 1), "restarts": (restarts, 0)}
    if chunk_size is not None:
        least["chunk_size"] = (chunk_size, 1)
    for name, (value, smallest) in least.items():
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < smallest:
            raise ValueError(f"{name} must be a whole number of {smallest} or more, got {value!r}")


def check_polish(polish: Any) -> None:
    """Raises ValueError unless polish is a share."""
    if isinstance(polish, bool) or not isinstance(polish, (int, float, np.number)) or not 0 <= polish <= 1:
        raise ValueError(f"polish is the share of the steps without transforms, 0 to 1, got {polish!r}")


def check_stop(stop_when: Any) -> None:
    """Raises ValueError for something else than a `Converged` or None."""
    if stop_when is not None and not isinstance(stop_when, leaving.Converged):
        raise ValueError(f"stop_when must come from nd_jax.visualize.converged(), or be None, got {stop_when!r}")


def spread_scale(scale: Any, lanes: int) -> np.ndarray:
    """(lanes,) factors on the penalties, from one number, one a lane, or None.

    Raises:
      ValueError: another count, or a number that is negative or not finite.
    """
    numbers = np.asarray(1.0 if scale is None else scale, np.float32)
    if numbers.shape not in ((), (lanes,)) or not np.all(np.isfinite(numbers)) or np.any(numbers < 0):
        raise ValueError(f"scale must be one number of 0 or more, or one for each of {lanes} lanes, got {scale!r}")
    return np.array(np.broadcast_to(numbers, (lanes,)))


def spread_strengths(strengths: Any, lanes: int, plan: Plan) -> np.ndarray | None:
    """(lanes, penalties + transforms) factors and chances, from such a row or one for each lane; None stays None.

    Raises:
      ValueError: another shape, a factor below 0, or a chance that is none.
    """
    if strengths is None:
        return None
    costs, moves = len(plan.penalties), len(plan.transforms)
    numbers = np.asarray(strengths, np.float32)
    if numbers.shape not in ((costs + moves,), (lanes, costs + moves)):
        raise ValueError(
            f"strengths are {costs} factors on penalties and {moves} chances of transforms, for all or for each of "
            f"{lanes} lanes, got shape {numbers.shape}"
        )
    if not np.all(np.isfinite(numbers)) or np.any(numbers < 0) or np.any(numbers[..., costs:] > 1):
        raise ValueError("strengths must be factors of 0 or more on penalties, and chances of 0 to 1 of transforms")
    return np.array(np.broadcast_to(numbers, (lanes, costs + moves)))


def check_probes(probes: Any, domain: Any, name: str = "probes") -> None:
    """Raises ValueError unless probes are a batch of finite inputs of the domain; `name` is what they are called."""
    shapes = jax.tree.map(lambda leaf: tuple(np.shape(leaf)), probes)
    expected = domain.shape
    rows = {shape[0] if shape else 0 for shape in jax.tree.leaves(shapes, is_leaf=lambda node: isinstance(node, tuple))}
    cut = jax.tree.map(lambda shape: shape[1:], shapes, is_leaf=lambda node: isinstance(node, tuple))
    if cut != expected or len(rows) != 1 or not min(rows):
        raise ValueError(f"{name} must be inputs of shape (m, *{expected}), got {shapes}")
    if not all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(probes)):
        raise ValueError(f"{name} must be finite numbers, and some are not")


def check_kinds(objective: Any, optimizer: Any) -> None:
    """Raises ValueError for an objective or an optimizer that is something else."""
    if not isinstance(objective, (objectives.Objective, objectives.Bound)):
        raise ValueError(
            f"objective must come from nd_jax.objectives, for example channel('conv', range(8)), got {objective!r}"
        )
    if optimizer is not None and not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise ValueError(f"optimizer must be an Optax transformation, for example optax.adam(0.05), got {optimizer!r}")


def check_parts(plan: Plan, domain: Any) -> None:
    """Every part of a run, against the domain, before anything is compiled."""
    for room, items in {"transforms": plan.transforms, "penalties": plan.penalties}.items():
        for item in items:
            if not (callable(item) and hasattr(item, "check")):
                raise ValueError(
                    f"{room} must come from nd_jax.{room} (or have a check(domain) like them), got {item!r}"
                )
            item.check(plan.parameterization.latent if stirs_latent(plan, item) else domain)
            if getattr(item, "of_parameters", False):
                item.check_parameterization(plan.parameterization)
    if not (hasattr(plan.parameterization, "init") and hasattr(plan.parameterization, "apply")):
        raise ValueError(f"parameterization must come from nd_jax.parameterizations, got {plan.parameterization!r}")
    made = jax.eval_shape(
        lambda key: plan.parameterization.apply(plan.parameterization.init(key, domain), domain), jax.random.key(0)
    )
    shape = jax.tree.map(lambda leaf: leaf.shape, made)
    if shape != domain.shape:
        raise ValueError(f"the parameterization makes inputs of shape {shape}; the network takes {domain.shape}")


def _some_keys(plan: Plan) -> jax.Array:
    return jax.random.key(0) if plan.inputs == 1 else jax.random.split(jax.random.key(0), plan.inputs)


def check_replicates(replicates: Any, lanes: int) -> None:
    """Raises ValueError unless replicates is a number of starts, or the number of the start for each lane."""
    if isinstance(replicates, (int, np.integer)):
        if replicates < 1:
            raise ValueError(f"replicates must be a whole number of 1 or more, got {replicates}")
        return
    numbers = np.asarray(replicates)
    if numbers.shape != (lanes,) or numbers.dtype.kind not in "iu" or np.any(numbers < 0):
        raise ValueError(
            f"replicates must be a whole number, or one of 0 or more for each of {lanes} lanes: {replicates!r}"
        )
