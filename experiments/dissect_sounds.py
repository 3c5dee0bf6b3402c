"""The sounds of `experiments/dissect.py`: a folder of files or sounds made here, recorded, and read again by number."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import nd_jax as nd
from nd_jax import audio
from nd_jax.dissect import Record
from nd_jax.dissect.record_store import OtherRecordError
from nd_jax.experiments.dissect_marks import digest_of
from nd_jax.experiments.visualize_natural import natural_sounds

if TYPE_CHECKING:
    from nd_jax.experiments.dissect import Settings


@dataclasses.dataclass(frozen=True, eq=False)
class Heard:
    """The clips, and what the units did on them.

    Attributes:
      record: of all layers, complete.
      root: the folder of the files, or None.
      waves: (clips, samples) of sounds made here, or None.
      sample_rate: of the network; samples: what it hears of a clip.
    """

    record: Record
    root: pathlib.Path | None
    waves: np.ndarray | None
    sample_rate: int
    samples: int

    def read(self, clips: Sequence[int] | np.ndarray) -> np.ndarray:
        """What the network hears of some clips, (n, samples)."""
        if self.waves is not None:
            return self.waves[np.asarray(clips, int)]
        assert self.root is not None
        files = [self.root / self.record.clips[clip] for clip in clips]
        return np.stack([audio.read(file, self.sample_rate, length=self.samples) for file in files])

    def native(self, clip: int) -> tuple[np.ndarray, int]:
        """The part of a clip that the network hears, without silence after it, at the file's own rate."""
        if self.waves is not None:
            return self.waves[clip], self.sample_rate
        assert self.root is not None
        wave, rate = audio.read_native(self.root / self.record.clips[clip])
        return wave[: round(self.samples / self.sample_rate * rate)], rate

    @functools.cached_property
    def named(self) -> str:
        """A name for the clips: their content in this order."""
        return digest_of(list(self.record.hashes))


@dataclasses.dataclass(frozen=True)
class _Made:
    """Procedural sounds, as `natural_sounds` is asked for them."""

    clips: int
    seed: int
    data_dir: pathlib.Path | None = None
    generator: str | None = ""
    data_set: Any = "audio_folder"
    split: str = "all"


def listen(network: nd.Network, layers: Sequence[str], settings: Settings, kept: pathlib.Path) -> Heard:
    """Records all clips, or goes on with a record that is there.

    Raises:
      ValueError: no clips that can be read, fewer than `settings.top`, or a folder with the record of something else.
    """
    domain: Any = network.input
    root = None if settings.sounds is None else settings.sounds.expanduser()
    given: dict[str, Any] = {"sounds": root}
    waves = None
    if root is None:
        made, names = natural_sounds(network, _Made(settings.made, settings.seed))
        assert made is not None
        waves = np.asarray(made["waves"], np.float32)
        given = {"sounds": waves, "names": names, "sample_rate": made["sample_rate"]}
    # Pages rank natural sounds by the mean, which is what optimised sounds make large.
    pools = ("mean",) if settings.pool == "mean" else (settings.pool, "mean")
    try:
        record = nd.dissect.record(
            network,
            **given,
            layers=layers,
            folder=kept / "record",
            pool=pools,
            top=settings.top,
            batch_size=settings.batch_size,
            resume=not settings.fresh,
        )
    except OtherRecordError as error:
        raise ValueError(
            f"{settings.out} holds a dissection of {error.what}: give another --out, or --fresh to replace it"
        ) from None
    return Heard(record, root, waves, int(domain.sample_rate), int(domain.samples))
