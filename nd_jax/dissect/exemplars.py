"""Natural sounds that a unit responds to: for every unit, the clips at chosen quantiles of its activation.

The activation of a clip is the mean of the unit over all positions of the layer: the number that
`objectives.channel` makes large, so optimised and natural inputs are ranked by the same measure.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax import taps
from nd_jax.dissect.record_reading import Record
from nd_jax.domain import Domain, LogMel, MelIF, Waveform
from nd_jax.domain.axes import time_axis
from nd_jax.network import Network, digest

QUANTILES = (1.0, 0.99, 0.95, 0.75)
_FORMAT = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Exemplars:
    """What `exemplars` found.

    Attributes:
      quantiles: the quantiles asked for, (q,); 1 is the clip with the highest activation.
      count: clips in the bank.
      clips: {layer: (units, q) int}: the clip's index in the bank, -1 where the bank had no clip left to show.
      ranks: {layer: (units, q) int}: 0 is the highest activation in the bank; -1 likewise.
      activations: {layer: (units, q) float32}: mean over positions; NaN likewise.
      curves: {layer: (units, q, steps) float32}: the unit over time on that clip, mean over the other positions.
        A layer without a time axis is missing. Step k stands for second (k + 0.5) / steps of the clip.
      constant: {layer: (units,) bool}: the same activation on every clip of the bank (dead units, as a rule).
      spread: {layer: (units,) float32}: standard deviation of the activation over the clips of the bank.
      kept: (m,) int, ascending: the clips that occur above; `inputs` and `waves` hold these only.
      inputs: (m, *network.input.shape) float32.
      waves: (m, samples) float32, or None when the clips were given as network inputs.
      sample_rate: of the waves in Hz, 0 without them.
      seconds: length of a clip, 0 when unknown.
      names: (m,) names of the kept clips.
    """

    quantiles: tuple[float, ...]
    count: int
    clips: dict[str, np.ndarray]
    ranks: dict[str, np.ndarray]
    activations: dict[str, np.ndarray]
    curves: dict[str, np.ndarray]
    constant: dict[str, np.ndarray]
    spread: dict[str, np.ndarray]
    kept: np.ndarray
    inputs: np.ndarray
    waves: np.ndarray | None
    sample_rate: int
    seconds: float
    names: tuple[str, ...]

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that were read."""
        return tuple(self.clips)

    def position(self, clip: int) -> int:
        """Where clip `clip` of the bank stands in `kept`, `inputs`, `waves` and `names`.

        Raises:
          ValueError: a clip that is not kept.
        """
        where = int(np.searchsorted(self.kept, clip))
        if where >= len(self.kept) or self.kept[where] != clip:
            raise ValueError(f"clip {clip} is not among the {len(self.kept)} clips kept")
        return where

    def times(self, layer: str) -> np.ndarray:
        """The seconds that the steps of a layer's curves stand for, (steps,)."""
        steps = self.curves[layer].shape[-1]
        return (np.arange(steps) + 0.5) / steps * self.seconds

    def save(self, path: Any) -> pathlib.Path:
        """Writes everything to one npz file (`.npz` is added when missing); returns its path."""
        target = pathlib.Path(path).expanduser()
        target = target if target.suffix == ".npz" else target.with_name(target.name + ".npz")
        target.parent.mkdir(parents=True, exist_ok=True)
        header = {
            "format": _FORMAT,
            "quantiles": list(self.quantiles),
            "count": self.count,
            "sample_rate": self.sample_rate,
            "seconds": self.seconds,
            "names": list(self.names),
            "layers": list(self.layers),
            "curves": list(self.curves),
        }
        arrays: dict[str, Any] = {"kept": self.kept, "inputs": self.inputs}
        if self.waves is not None:
            arrays["waves"] = self.waves
        for index, layer in enumerate(self.layers):
            for field in ("clips", "ranks", "activations", "constant", "spread", "curves"):
                if layer in getattr(self, field):
                    arrays[f"{field}/{index}"] = getattr(self, field)[layer]
        np.savez_compressed(target, header=np.array(json.dumps(header)), **arrays)
        return target

    @classmethod
    def load(cls, path: Any) -> Exemplars:
        """Reads a file written by `save`.

        Raises:
          ValueError: not such a file.
        """
        try:
            with np.load(pathlib.Path(path).expanduser(), allow_pickle=False) as file:
                header = json.loads(str(file["header"]))
                if header["format"] != _FORMAT:
                    raise ValueError(f"format {header['format']}")
                layers = header["layers"]

                def field(name: str) -> dict[str, np.ndarray]:
                    return {
                        layer: file[f"{name}/{index}"]
                        for index, layer in enumerate(layers)
                        if f"{name}/{index}" in file.files
                    }

                return cls(
                    quantiles=tuple(header["quantiles"]),
                    count=header["count"],
                    clips=field("clips"),
                    ranks=field("ranks"),
                    activations=field("activations"),
                    curves=field("curves"),
                    constant=field("constant"),
                    spread=field("spread"),
                    kept=file["kept"],
                    inputs=file["inputs"],
                    waves=file["waves"] if "waves" in file.files else None,
                    sample_rate=header["sample_rate"],
                    seconds=header["seconds"],
                    names=tuple(header["names"]),
                )
        except (KeyError, ValueError) as error:
            raise ValueError(f"{path} was not written by Exemplars.save: {error}") from None


def exemplars(
    network: Network,
    waves: Any = None,
    *,
    inputs: Any = None,
    layers: Sequence[str],
    sample_rate: int | None = None,
    names: Sequence[str] | None = None,
    quantiles: Sequence[float] = QUANTILES,
    batch_size: int = 64,
    progress: bool = True,
) -> Exemplars:
    """Finds, for every unit of every layer, the natural clips at the given quantiles of the unit's activation.

    The bank is read twice in batches: once for one number per clip and unit, and once more, only the clips that are
    shown, for the curves over time. Memory is one batch of activations and (clips, units) float32.

    Args:
      network: the network whose units are read.
      waves: the bank, (n, samples) at the network's own rate and length (`nd_jax.audio.fit` brings sounds there); one
        of `waves` and `inputs`.
      inputs: the bank as network inputs instead, (n, *network.input.shape).
      layers: names as in `taps.layers`, or "output".
      sample_rate: of the waves in Hz, to be checked against the network's.
      names: what each clip is called, (n,).
      quantiles: 1 is the strongest clip. In a bank with fewer clips than quantiles, or quantiles closer than two clips,
        the next weaker clip that is not shown yet is taken; `ranks` says which it is.
      batch_size: clips per forward pass.
      progress: shows a progress bar.

    Raises:
      ValueError: both or neither of waves and inputs, an empty bank, another rate or length, names that do not fit.
      LayerError: an unknown layer, with the nearest names.
    """
    bank, read, seconds = _bank(network.input, waves, inputs, sample_rate)
    count = len(bank)
    if names is not None and len(names) != count:
        raise ValueError(f"{len(names)} names for {count} clips")
    if not layers or isinstance(layers, str):
        raise ValueError(f"layers must be a list of layer names, got {layers!r}")
    _check_quantiles(quantiles)
    shapes = {layer: taps.layer_shape(network, layer) for layer in layers}
    time_axes = {layer: time_axis(network.input, shape) for layer, shape in shapes.items()}
    step = functools.partial(_mean_and_curves, layers=tuple(shapes), time_axes=tuple(time_axes.items()))

    def taken(rows: np.ndarray) -> Any:
        return read(np.asarray(bank[rows], np.float32))

    means = {layer: np.empty((count, shape[-1]), np.float32) for layer, shape in shapes.items()}
    for rows, batch in _batches(np.arange(count), batch_size, "natural sounds", progress):
        found = step(network, taken(batch), with_curves=False)[0]
        for layer, values in found.items():
            means[layer][rows] = np.asarray(values)[: len(rows)]

    kept, shown = _chosen(means, quantiles)
    curves, kept_inputs = _curves(network, kept, shown["clips"], taken, batch_size, progress, step)
    return Exemplars(
        quantiles=tuple(float(quantile) for quantile in quantiles),
        count=count,
        **shown,
        curves=curves,
        kept=kept,
        inputs=kept_inputs,
        waves=None if waves is None else np.asarray(bank[kept], np.float32),
        sample_rate=0 if waves is None else int(getattr(network.input, "sample_rate", 0)),
        seconds=seconds,
        names=tuple(str(names[clip]) if names is not None else f"clip {clip}" for clip in kept),
    )


def recorded_exemplars(
    network: Network,
    record: Record,
    read: Callable[[np.ndarray], np.ndarray],
    *,
    units: Mapping[str, Sequence[int]],
    pool: str | None = None,
    quantiles: Sequence[float] = QUANTILES,
    batch_size: int = 16,
    progress: bool = True,
) -> Exemplars:
    """`exemplars` of a record: only the clips that are shown are read again, for the curves over time.

    Args:
      network: that was recorded.
      record: complete.
      read: clip numbers (n,) -> (n, samples) float32, at the network's rate and length.
      units: {layer: units that are shown}; the others have no clips (-1).
      pool: of the record by which clips are ranked; by default its first.
      quantiles: as `exemplars`.
      batch_size: clips per forward pass.
      progress: shows a progress bar.

    Raises:
      ValueError: a record of another network, or one that is not complete.
      LayerError: a layer that was not recorded.
    """
    domain: Any = network.input
    if record.network != digest(network):
        raise ValueError(f"{record.folder} is a record of another network")
    _check_quantiles(quantiles)
    means, wanted = {}, {}
    for layer, some in units.items():
        means[layer] = record.activations(layer, pool)
        means[layer] = means[layer].mean(axis=1) if means[layer].ndim == 3 else means[layer]
        wanted[layer] = np.isin(np.arange(means[layer].shape[1]), np.asarray(some, int))
    kept, shown = _chosen(means, quantiles, wanted)
    waves = np.empty((len(kept), domain.samples), np.float32)
    for start in range(0, len(kept), batch_size):
        waves[start : start + batch_size] = read(kept[start : start + batch_size])
    analyse = jax.jit(domain.from_wave)
    axes = {layer: time_axis(domain, taps.layer_shape(network, layer)) for layer in units}
    step = functools.partial(_mean_and_curves, layers=tuple(axes), time_axes=tuple(axes.items()))

    def taken(rows: np.ndarray) -> Any:
        return analyse(waves[np.searchsorted(kept, rows)])

    curves, inputs = _curves(network, kept, shown["clips"], taken, batch_size, progress, step)
    return Exemplars(
        quantiles=tuple(float(quantile) for quantile in quantiles),
        count=len(record.clips),
        **shown,
        curves=curves,
        kept=kept,
        inputs=inputs,
        waves=waves,
        sample_rate=int(domain.sample_rate),
        seconds=domain.samples / domain.sample_rate,
        names=tuple(record.clips[clip] for clip in kept),
    )


def _chosen(
    means: Mapping[str, np.ndarray], quantiles: Sequence[float], wanted: Mapping[str, np.ndarray] | None = None
) -> tuple[np.ndarray, dict[str, Any]]:
    """The clips to show, and what `Exemplars` says of (clips, units) activations; of units that are wanted only."""
    ranks, clips, activations = {}, {}, {}
    for layer, values in means.items():
        ranks[layer], clips[layer], activations[layer] = ranked(values, quantiles)
        if wanted is not None:
            left = ~wanted[layer]
            ranks[layer][left], clips[layer][left], activations[layer][left] = -1, -1, np.nan
    kept = np.unique(np.concatenate([index[index >= 0] for index in clips.values()]))
    still = {layer: np.ptp(values, axis=0) <= 1e-7 * np.abs(values).max(axis=0) for layer, values in means.items()}
    spread = {layer: values.std(axis=0) for layer, values in means.items()}
    return kept, {"ranks": ranks, "clips": clips, "activations": activations, "constant": still, "spread": spread}


def _curves(
    network: Network,
    kept: np.ndarray,
    clips: Mapping[str, np.ndarray],
    read: Callable[[np.ndarray], Any],
    batch_size: int,
    progress: bool,
    step: Callable[..., Any],
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Curves of the clips that are shown, {layer: (units, q, steps)}, and their network inputs."""
    curves: dict[str, np.ndarray] = {}
    inputs = np.empty((len(kept), *network.input.shape), np.float32)
    done = 0
    for rows, batch in _batches(kept, batch_size, "activation over time", progress):
        pictures = read(batch)
        inputs[done : done + len(rows)] = np.asarray(pictures)[: len(rows)]
        done += len(rows)
        for layer, values in step(network, pictures, with_curves=True)[1].items():
            _place(curves, layer, clips[layer], rows, np.asarray(values))
    return curves, inputs


def ranked(values: np.ndarray, quantiles: Sequence[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Activations (clips, units) -> ranks, clips and activations at quantiles, (units, q) each; see `Exemplars`."""
    ranks = _ranks(len(values), quantiles, values.shape[1])
    order = np.argsort(-np.nan_to_num(values, nan=-np.inf), axis=0, kind="stable")
    picked = np.take_along_axis(order, np.maximum(ranks, 0).T, axis=0).T
    activations = np.where(ranks >= 0, np.take_along_axis(values, picked.T, axis=0).T, np.nan)
    return ranks, np.where(ranks >= 0, picked, -1), activations.astype(np.float32)


def _bank(domain: Domain, waves: Any, inputs: Any, sample_rate: int | None) -> tuple[np.ndarray, Any, float]:
    """The bank as an array, the function from a batch of it to network inputs, and the seconds of a clip."""
    if (waves is None) == (inputs is None):
        raise ValueError("give the bank as waves=(n, samples) or as inputs=(n, *network.input.shape), one of the two")
    native = int(getattr(domain, "sample_rate", 0))
    seconds = domain.samples / native if isinstance(domain, LogMel | MelIF | Waveform) else 0.0
    bank = np.asarray(waves if inputs is None else inputs)
    if bank.ndim < 2 or bank.dtype.kind not in "fiu":
        given = type(waves if inputs is None else inputs).__name__
        raise ValueError(f"the bank is an array of numbers (n, samples), such as bank.waves, not {given}")
    if not len(bank):
        raise ValueError("the bank of natural sounds is empty")
    if inputs is not None:
        domain.check(bank)
        if bank.shape == tuple(domain.shape):
            raise ValueError(f"inputs has shape {bank.shape}; add a batch axis: inputs[None]")
        return bank, jnp.asarray, seconds
    if not isinstance(domain, LogMel | MelIF | Waveform):
        raise ValueError(
            f"a network on a domain of kind {domain.kind!r} takes no sounds; give inputs= instead of waves"
        )
    if sample_rate is not None and sample_rate != native:
        raise ValueError(f"the sounds have {sample_rate} Hz, but the network takes {native} Hz; read them at that rate")
    if bank.ndim != 2 or bank.shape[1] != domain.samples:
        raise ValueError(
            f"waves has shape {bank.shape}, but this network takes (n, {domain.samples}); "
            "bring sounds to length with nd_jax.audio.fit"
        )
    return bank, jax.jit(domain.from_wave), seconds


@functools.partial(jax.jit, static_argnames=("layers", "time_axes", "with_curves"))
def _mean_and_curves(
    network: Network, x: jax.Array, *, layers: tuple[str, ...], time_axes: Any, with_curves: bool
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """(batch, units) means over positions and (batch, time, units) curves of some layers."""
    axes: Mapping[str, int | None] = dict(time_axes)
    values = taps.read(network, x, layers)
    means = {name: value.mean(axis=tuple(range(1, value.ndim - 1))) for name, value in values.items()}
    if not with_curves:
        return means, {}
    curves = {
        name: value.mean(axis=tuple(axis for axis in range(1, value.ndim - 1) if axis != axes[name]))
        for name, value in values.items()
        if axes[name] is not None
    }
    return means, curves


def _batches(clips: np.ndarray, batch_size: int, title: str, progress: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(clips, batch of them) pairs; the last batch is filled up with its last clip, so that one program serves all."""
    from tqdm import tqdm

    size = min(batch_size, len(clips))
    for start in tqdm(range(0, len(clips), size), desc=title, disable=not progress, leave=False):
        part = clips[start : start + size]
        yield part, np.resize(part, size)


def _check_quantiles(quantiles: Sequence[float]) -> None:
    if not quantiles or not all(0.0 <= quantile <= 1.0 for quantile in quantiles):
        raise ValueError(f"quantiles must lie between 0 and 1, got {tuple(quantiles)}")


def _ranks(count: int, quantiles: Sequence[float], units: int) -> np.ndarray:
    """(units, q) ranks, distinct, the same for every unit; -1 where the bank is used up."""
    taken: set[int] = set()
    ranks = []
    for quantile in quantiles:
        rank = int(round((1.0 - quantile) * (count - 1)))
        while rank in taken:
            rank += 1
        ranks.append(rank if rank < count else -1)
        taken.add(rank)
    return np.tile(np.array(ranks), (units, 1))


def _place(curves: dict[str, np.ndarray], layer: str, clips: np.ndarray, rows: np.ndarray, values: np.ndarray) -> None:
    """Copies the curves of the clips `rows`, (batch, time, units), to the units and quantiles that show them."""
    if layer not in curves:
        curves[layer] = np.full((*clips.shape, values.shape[1]), np.nan, np.float32)
    for batch_index, clip in enumerate(rows):
        units, columns = np.nonzero(clips == clip)
        curves[layer][units, columns] = values[batch_index].T[units]
