"""The trust card: how far each optimised input of a result is to be believed."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np

from nd_jax.visualize.result import Visualization
from nd_jax.visualize.trust import paths

_FORMAT = 1
_ARRAYS = (
    "units",
    "replicates",
    "score",
    "mean",
    "high",
    "survived",
    "silent",
    "dead",
    "saturated",
    "same",
    "other",
    "made",
    "twin",
    "agreement",
    "seed_scores",
    "preference",
)


@dataclasses.dataclass(frozen=True, eq=False)
class Trust:
    """What `measure` found, one row a lane of the result; NaN where something was not or cannot be measured.

    Attributes:
      labels, layers: (n,) of the lanes; units: (n,), -1 for an objective that is not one unit; replicates: (n,) which
        start of the objective.
      count: natural inputs that were listened to.
      score: (n,) the objective on the optimised input.
      mean, high: (n,) mean and 99.9th percentile of the objective on the natural inputs.
      survived: (n,) the objective after the sound was written as a 16-bit wav, read back and analysed again.
      silent: (n,) bool: the same value on every natural input.
      dead: (n,) bool: no response from any start (`visualize_batch`, rescue included).
      saturated: (n,) bool: at a ceiling; a fifth of the way back to the average natural input costs less than a
        hundredth of what the whole way does, where a linear unit loses a fifth.
      path_layers: the earlier layers that were compared.
      same, other, made: (n, path layers) rank correlations of natural inputs of the unit among themselves, with natural
        inputs of other units, and with the optimised input.
      twin: (k,) `ratio` of some of these lanes in a network with random weights; NaN where they
        do not answer.
      agreement: (n,) how alike the inputs from several starts are, 1 the same, 0 as two natural inputs.
      seed_scores: (n, starts) scores of all starts, this lane's own first.
      preference: (n, starts) which preference each start found, 0 the strongest; -1 none.
      others: the further starts, lane by lane, (starts - 1) of each measured lane; None without.
      waves: (n, samples) the optimised inputs as sound, before rounding to 16 bits; None unless they are sound. Not
        saved.
    """

    labels: tuple[str, ...]
    layers: tuple[str, ...]
    units: np.ndarray
    replicates: np.ndarray
    count: int
    score: np.ndarray
    mean: np.ndarray
    high: np.ndarray
    survived: np.ndarray
    silent: np.ndarray
    dead: np.ndarray
    saturated: np.ndarray
    path_layers: tuple[str, ...]
    same: np.ndarray
    other: np.ndarray
    made: np.ndarray
    twin: np.ndarray
    agreement: np.ndarray
    seed_scores: np.ndarray
    preference: np.ndarray
    others: Visualization | None = None
    waves: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        where = ", ".join(dict.fromkeys(self.layers))
        ratio = f"{np.nanmedian(self.ratio):.3g}" if np.isfinite(self.ratio).any() else "nothing"
        return f"Trust({len(self)} lanes of {where}, {self.count} natural inputs, median ratio {ratio})"

    @property
    def ratio(self) -> np.ndarray:
        """(n,) how far the optimised input drives the unit, over how far the natural 99.9th percentile does.

        Both from the natural mean, so that a unit's offset does not matter: 1 is what one natural input in a thousand
        reaches. NaN for a unit that is silent or dead.
        """
        return self._over(self.score)

    @property
    def ratio_after(self) -> np.ndarray:
        """(n,) `ratio` after the wav was written, read back and analysed again."""
        return self._over(self.survived)

    @property
    def survives(self) -> np.ndarray:
        """(n,) the share of the rise above the natural mean that is left after the wav."""
        rise = self.score - self.mean
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self._answers & (rise > 0), (self.survived - self.mean) / rise, np.nan)

    @property
    def path(self) -> np.ndarray:
        """(n,) path similarity over the earlier layers: 1 as natural inputs of the unit, 0 as those of other units."""
        return np.where(self._answers, paths.scaled(self.same, self.other, self.made), np.nan)

    @property
    def preferences(self) -> np.ndarray:
        """(n,) how many different things the starts found; 0 where starts were not compared."""
        return self.preference.max(axis=1, initial=-1) + 1

    @property
    def _answers(self) -> np.ndarray:
        return ~self.dead & ~self.silent & np.isfinite(self.score)

    def _over(self, score: np.ndarray) -> np.ndarray:
        reach = self.high - self.mean
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self._answers & (reach > 0), (score - self.mean) / reach, np.nan)

    def save(self, folder: Any) -> pathlib.Path:
        """Writes the card into a folder (made if missing), the further starts beside it; returns the folder."""
        target = pathlib.Path(folder).expanduser()
        target.mkdir(parents=True, exist_ok=True)
        header = {
            "format": _FORMAT,
            "labels": list(self.labels),
            "layers": list(self.layers),
            "count": self.count,
            "path_layers": list(self.path_layers),
            "others": self.others is not None,
        }
        if self.others is not None:
            self.others.save(target / "starts")
        arrays: dict[str, Any] = {name: getattr(self, name) for name in _ARRAYS}
        np.savez_compressed(target / "trust.npz", header=np.array(json.dumps(header)), **arrays)
        return target

    @classmethod
    def load(cls, folder: Any) -> Trust:
        """Reads what `save` wrote.

        Raises:
          ValueError: not such a folder.
        """
        path = pathlib.Path(folder).expanduser()
        try:
            with np.load(path / "trust.npz", allow_pickle=False) as file:
                header = json.loads(str(file["header"]))
                if header["format"] != _FORMAT:
                    raise ValueError(f"format {header['format']}")
                arrays = {name: file[name] for name in _ARRAYS}
            return cls(
                labels=tuple(header["labels"]),
                layers=tuple(header["layers"]),
                count=header["count"],
                path_layers=tuple(header["path_layers"]),
                others=Visualization.load(path / "starts") if header["others"] else None,
                **arrays,
            )
        except (OSError, KeyError, ValueError) as error:
            raise ValueError(f"{path} was not written by Trust.save: {error}") from None
