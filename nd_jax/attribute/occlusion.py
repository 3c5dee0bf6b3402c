"""Occlusion: take a window away and see how far the score falls (Zeiler & Fergus 2014, section 4.2).

For windows p with masks M_p, baseline b and score f

    x_p = x (1 - M_p) + b M_p,   d_p = f(x) - f(x_p),   A = sum_p d_p M_p / sum_p M_p

as Captum has it: every value gets the mean fall of the windows that cover it. Clips, targets and windows go through one
compiled program, so many at a time as fit: memory is bounded, the number of windows is known beforehand. All lanes of
an objective come from the same passes; where it is less work, only what a window reaches is computed (`sweep`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from nd_jax.attribute import targets
from nd_jax.attribute.attribution import Attribution
from nd_jax.attribute.baselines import NEIGHBOURS, baseline_of
from nd_jax.attribute.removal import Way
from nd_jax.attribute.spectra import TimeFrequency
from nd_jax.attribute.sweep import Job, prepared, sweep
from nd_jax.attribute.windows import Grid, laid
from nd_jax.network import Network


def occlusion(
    network: Network,
    x: Any,
    target: targets.Target,
    *,
    window: int | Sequence[int] | None = None,
    stride: int | Sequence[int] | None = None,
    time: Any = None,
    time_stride: float | None = None,
    frequency: Any = None,
    frequency_stride: float | None = None,
    n_fft: int = 512,
    baseline: Any = "silence",
    key: jax.Array | None = None,
    blur: float = 4.0,
    chunk_size: int | None = None,
    recompute: bool | None = None,
    progress: bool | Callable[[int, int], None] = False,
) -> Attribution:
    """How much the score falls when parts of an input are taken away.

    Args:
      network: any Network that takes one array.
      x: one input or several, (*shape) or (clips, *shape).
      target: a class (its logit), one class for each clip, or an objective; see `targets`.
      window: its size along every axis in steps, Captum's `sliding_window_shapes`; one number is for all axes but the
        channels. Or seconds and Hz:
      stride: of the window, 1 by default.
      time: width of a window in seconds, edges of segments in seconds, or such edges for each clip (`onsets`).
      time_stride: seconds between windows.
      frequency: width of a band in Hz, or edges in Hz (`bands`). Of a waveform the band is taken out of its short-time
        spectrum: x - ISTFT(M STFT(x - baseline)), and the map has its shape, (bins, frames).
      frequency_stride: Hz between bands.
      n_fft: samples of a frame of that spectrum.
      baseline: what stands in the window: "silence", "mean", "band_mean", "noise", "blur", "neighbours", a number, or
        another clip; see `baselines`.
      key: for "noise".
      blur: for "blur", in steps.
      chunk_size: occluded inputs that the network sees at once; None for as many as the compiled program has room for.
      recompute: whether only what a window reaches is computed anew; None where that is less work and gives the same
        scores, which is tried on some windows first. False always runs the whole network.
      progress: True for a bar with the time left, or a function of (windows done, in total).

    Returns:
      An `Attribution` whose values have the shape of x. Where no window comes they are 0.

    Raises:
      LayerError, ValueError: whatever does not fit, in one sentence, before anything runs.
    """
    if chunk_size is not None:
        chunk_size = targets.whole("chunk_size", chunk_size)
    if recompute not in (None, True, False):
        raise ValueError(f"recompute is True, False or None for what is less work, not {recompute!r}")
    values, several = targets.inputs(network, x)
    goal, own = targets.bound(network, target, len(values))
    windows, seen = laid(
        network.input,
        len(values),
        n_fft,
        window=window,
        stride=stride,
        time=time,
        time_stride=time_stride,
        frequency=frequency,
        frequency_stride=frequency_stride,
    )
    instead = baseline_of(network.input, values, baseline, key=key, blur=blur)
    way: Way = seen if isinstance(seen, TimeFrequency) else "values"
    if isinstance(baseline, str) and baseline == NEIGHBOURS:
        if way != "values":
            raise ValueError("baseline 'neighbours' is for values, not for the short-time spectrum of a waveform")
        way = NEIGHBOURS
    job = Job(network, goal, values, prepared(values, instead, way), windows, way)
    falls, scores = sweep(job, chunk_size, recompute, progress)
    if own is not None:
        falls = np.take_along_axis(falls, own[:, None, None], axis=1)
        scores = np.take_along_axis(scores, own[:, None], axis=1)
    maps = np.stack([_averaged(windows, fall, clip) for clip, fall in enumerate(falls)])
    found = [targets.shaped(each, own, several) for each in (maps, scores, falls)]
    view = seen if isinstance(seen, TimeFrequency) else None
    return Attribution(found[0], found[1], goal.labels, "occlusion", network.input, found[2], windows, view=view)


def _averaged(windows: Grid, falls: np.ndarray, clip: int) -> np.ndarray:
    """(lanes, windows) -> (lanes, *shape): the mean over the windows that cover a value."""
    cover = windows.coverage(clip)
    return windows.spread(falls, clip) / np.maximum(cover, 1)
