"""`Visualization`: what `visualize_batch` found, with everything needed to see, hear, keep and repeat it."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from nd_jax import domain as domains
from nd_jax.network import digest
from nd_jax.runtime import MissingExtraError, nearest
from nd_jax.visualize.objectives import Bound

if TYPE_CHECKING:
    from nd_jax.network import Network

FORMAT = 1
_JSON = "manifest.json"
_ARRAYS = "arrays.npz"
_NETWORK = "network"
_FIELDS = (
    "units",
    "replicates",
    "inputs",
    "parameters",
    "scores",
    "history",
    "snapshots",
    "snapshot_steps",
    "steps_done",
    "scale",
    "strengths",
    "way",
)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Visualization:
    """The result of a run over n lanes.

    Attributes:
      network: the network that was looked into; None when it could not be saved with the result.
      domain: the domain of the inputs.
      labels: (n,) the objectives' names, "block1/conv:7".
      layers: (n,) layer of each lane; units: (n,) its unit, or -1.
      replicates: (n,) which start of the same objective this is.
      inputs: (n, *domain.shape), what was found; (n, k, *domain.shape) for k > 1 inputs a lane, and so all the others.
      parameters: the free parameters, a pytree with leading axis n.
      scores: (n,) the objective on `inputs`, without transforms.
      history: (k, n) scores at the k snapshots; snapshots: (k, n, *domain.shape); snapshot_steps: (k,) their steps.
      steps_done: (n,) updates each lane had.
      stopped: (n,) why no more: "steps" (it had all), "converged", "died" (its unit did not answer), "not finite",
        "interrupted"; () for results of before there was more than one reason.
      status: (n,) "ok", or why not in plain words ("dead: no response from 64 starts").
      starts: (n,) where each lane began: "own"; or, for one that was rescued, "own, redirected gradients", "seed 17",
        "probe 203".
      scale: (n,) the factor on the penalties; None for results of before there was one.
      manifest: versions, key, settings, time: what `rerun` needs.
      strengths: (n, penalties + transforms) factors on penalties and chances of transforms; None for all in full.
      objective: what each lane climbed, for `rerun`; None for results of different objectives that were joined.
      carried: arrays and networks that the settings name by their fingerprint. Arrays are saved with the result;
        networks (a generator) are not.
      way: (k, n, ...) the free parameters at the snapshots, of runs through `parameterizations.prior` whose lanes all
        ran to the end; None for others.
    """

    network: Network | None
    domain: domains.Domain
    labels: tuple[str, ...]
    layers: tuple[str, ...]
    units: np.ndarray
    replicates: np.ndarray
    inputs: Any
    parameters: Any
    scores: np.ndarray
    history: np.ndarray
    snapshots: Any
    snapshot_steps: tuple[int, ...]
    steps_done: np.ndarray
    status: tuple[str, ...]
    manifest: Mapping[str, Any]
    objective: Bound | None = None
    starts: tuple[str, ...] = ()
    scale: np.ndarray | None = None
    carried: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    stopped: tuple[str, ...] = ()
    strengths: np.ndarray | None = None
    way: Any = None

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        failed = sum(status != "ok" for status in self.status)
        where = ", ".join(dict.fromkeys(self.layers))
        note = f", {failed} not ok" if failed else ""
        return f"Visualization({len(self)} lanes of {where}, {int(np.max(self.steps_done, initial=0))} steps{note})"

    def _repr_html_(self) -> str:
        from nd_jax import report

        try:
            return report.html_for(self)
        except MissingExtraError as error:
            return f"<pre>{self!r}\n{error}</pre>"

    def find(self, label: str) -> int:
        """The lane of a label ("block1/conv:7").

        Raises:
          KeyError: no such label, with the nearest.
        """
        if label not in self.labels:
            raise KeyError(f"no lane {label!r}; {nearest(label, self.labels)}")
        return self.labels.index(label)

    def select(self, lanes: Any) -> Visualization:
        """The given lanes (indices or labels) as a Visualization of their own."""
        index = self._index(lanes)
        return dataclasses.replace(
            self,
            labels=tuple(self.labels[i] for i in index),
            layers=tuple(self.layers[i] for i in index),
            units=self.units[index],
            objective=None if self.objective is None else self.objective.select(index),
            replicates=self.replicates[index],
            inputs=jax.tree.map(lambda leaf: leaf[index], self.inputs),
            parameters=jax.tree.map(lambda leaf: leaf[index], self.parameters),
            scores=self.scores[index],
            history=self.history[:, index],
            snapshots=jax.tree.map(lambda leaf: leaf[:, index], self.snapshots),
            way=jax.tree.map(lambda leaf: leaf[:, index], self.way),
            steps_done=self.steps_done[index],
            status=tuple(self.status[i] for i in index),
            starts=tuple(self.starts[i] for i in index) if self.starts else (),
            stopped=tuple(self.stopped[i] for i in index) if self.stopped else (),
            scale=None if self.scale is None else self.scale[index],
            strengths=None if self.strengths is None else self.strengths[index],
        )

    def _index(self, lanes: Any) -> np.ndarray:
        chosen = [lanes] if isinstance(lanes, (int, np.integer, str)) else list(lanes)
        index = np.asarray([self.find(lane) if isinstance(lane, str) else int(lane) for lane in chosen], int)
        if np.any((index < 0) | (index >= len(self))):
            raise IndexError(f"lanes are 0 to {len(self) - 1}, got {index.tolist()}")
        return index

    def norm_percentile(self) -> np.ndarray | None:
        """How many percent of a generator's latents are shorter than each lane's: (n,), 50 is as usual as can be.

        Of a run over a latent, or through `parameterizations.prior`; None for any other.
        """
        from nd_jax.visualize.parameterizations import latents

        stored = self.manifest.get("settings", {}).get("parameterization")
        return None if stored is None else latents.percentile_of(stored, self.parameters, self.domain)

    def rerun(self, lanes: Any, *, network: Network | None = None, **changes: Any) -> Visualization:
        """Runs lanes again with this result's key and settings; they come out the same.

        Args:
          lanes: indices or labels ("block1/conv:7").
          network: the network, when it was not saved with the result.
          **changes: keyword arguments of `visualize_batch` that should differ.

        Raises:
          ValueError: no network, another network than the one this result was made from, or a setting of your own that
            was not passed again.
        """
        from nd_jax.visualize import asking, manifest
        from nd_jax.visualize.batch import visualize_batch

        if self.objective is None:
            raise ValueError("this result was joined from several objectives: run again from one of its parts")
        used = network if network is not None else self.network
        if used is None:
            raise ValueError("this result was saved without its network: pass network=...")
        expected = self.manifest["network"]["digest"]
        if digest(used) != expected:
            raise ValueError(f"this result was made with a network of digest {expected}, not {digest(used)}")
        settings = {**manifest.restore_settings(self.manifest, self.carried, tuple(changes)), **changes}
        settings.setdefault("key", manifest.restore_key(self.manifest))
        index = self._index(lanes)
        settings.setdefault("replicates", self.replicates[index])
        settings.setdefault("scale", None if self.scale is None else self.scale[index])
        settings.setdefault("strengths", None if self.strengths is None else self.strengths[index])
        from_probes = [self.labels[i] for i in index if self.starts and self.starts[i].startswith("probe ")]
        if from_probes and "probes" not in changes:
            raise ValueError(
                f"lane {from_probes[0]!r} was started from a probing input: pass the same probes=... again"
            )
        classes = self.manifest.get(asking.MARK)
        if classes is not None and not set(asking.FIXED) & set(changes):
            chosen = {name: value for name, value in settings.items() if name not in asking.FIXED}
            chosen["project"] = asking.projects(self.manifest)
            chosen["candidates"] = changes.get("candidates", asking.tried(self.manifest))
            return asking.at_classes(used, self.objective.select(index), classes, **chosen)
        return visualize_batch(used, self.objective.select(index), **settings)

    def save(self, folder: Any) -> pathlib.Path:
        """Writes arrays, manifest and (where it can be saved) the network, all or nothing; replaces an earlier result.

        Raises:
          ValueError: the folder holds something else.
          OSError: the disk refuses; an earlier result is still there.
        """
        target = pathlib.Path(folder).expanduser().absolute()
        if target.exists() and not (target / _JSON).is_file():
            raise ValueError(f"{target} exists and is not a saved visualization, so it is not replaced")
        arrays: dict[str, np.ndarray] = {}
        structure = {name: _pack(name, getattr(self, name), arrays) for name in _FIELDS}
        description = {
            "format": FORMAT,
            "labels": list(self.labels),
            "layers": list(self.layers),
            "objective": None if self.objective is None else self.objective.to_dict(),
            "objective_arrays": None if self.objective is None else _pack("objective", self.objective.arrays, arrays),
            "status": list(self.status),
            "starts": list(self.starts),
            "stopped": list(self.stopped),
            "domain": self.domain.to_dict(),
            "domain_arrays": _pack("domain", self.domain.arrays(), arrays),
            "structure": structure,
            "carried": _pack("carried", _arrays_of(self.carried), arrays),
            "manifest": dict(self.manifest),
        }
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
            draft = pathlib.Path(scratch) / target.name
            draft.mkdir()
            np.savez(draft / _ARRAYS, **arrays)  # type: ignore[arg-type]
            (draft / _JSON).write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
            _save_network(self.network, draft / _NETWORK)
            if target.exists():
                os.replace(target, pathlib.Path(scratch) / "replaced")
            os.replace(draft, target)
        return target

    @staticmethod
    def load(folder: Any, *, network: Network | None = None) -> Visualization:
        """Reads a result that `save` wrote.

        Args:
          folder: where it is.
          network: the network, for one that could not be saved with the result.

        Raises:
          ValueError: not a saved visualization, or one that cannot be read.
        """
        path = pathlib.Path(folder).expanduser()
        try:
            description = json.loads((path / _JSON).read_text(encoding="utf-8"))
            with np.load(path / _ARRAYS, allow_pickle=False) as stored:
                values = {name: _unpack(node, stored) for name, node in description["structure"].items()}
                domain_arrays = _unpack(description["domain_arrays"], stored)
                terms = _unpack(description["objective_arrays"], stored)
                carried = _unpack(description.get("carried", {"dict": {}}), stored)
            objective = None
            if terms is not None:
                objective = Bound.from_dict(description["objective"], terms, values["units"])
            domain = domains.from_dict(description["domain"], domain_arrays)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is not a saved visualization that can be read: {error}") from None
        values["snapshot_steps"] = tuple(int(step) for step in values["snapshot_steps"])
        return Visualization(
            network=network if network is not None else _load_network(path / _NETWORK),
            domain=domain,
            labels=tuple(description["labels"]),
            layers=tuple(description["layers"]),
            objective=objective,
            status=tuple(description["status"]),
            starts=tuple(description.get("starts", ())),
            stopped=tuple(description.get("stopped", ())),
            manifest=description["manifest"],
            carried=carried,
            **values,
        )


def _arrays_of(carried: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: value for name, value in carried.items() if isinstance(value, np.ndarray)}


def _pack(name: str, value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Puts the leaves of a tree into `arrays` and returns its JSON-ready structure."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        return {"dict": {key: _pack(f"{name}/{key}", part, arrays) for key, part in value.items()}}
    if isinstance(value, (tuple, list)) and not all(np.isscalar(part) for part in value):
        return {"list": [_pack(f"{name}/{place}", part, arrays) for place, part in enumerate(value)]}
    arrays[name] = np.asarray(value)
    return {"array": name}


def _unpack(node: Any, stored: Any) -> Any:
    if node is None:
        return None
    if "dict" in node:
        return {key: _unpack(part, stored) for key, part in node["dict"].items()}
    if "list" in node:
        return tuple(_unpack(part, stored) for part in node["list"])
    return stored[node["array"]]


def _save_network(network: Network | None, folder: pathlib.Path) -> None:
    from nd_jax.storage import NetworkFileError

    if network is None:
        return
    try:
        network.save(folder)
    except NetworkFileError:
        # A module or an edit that only lives in this process; `load` then takes network=.
        shutil.rmtree(folder, ignore_errors=True)


def _load_network(folder: pathlib.Path) -> Network | None:
    from nd_jax.storage import NetworkFileError, load

    if not folder.is_dir():
        return None
    try:
        return load(folder)
    except NetworkFileError:
        return None


def slug(layer: str) -> str:
    """A layer's name as a file name: "block1/conv#2" becomes "block1-conv_2"; different layers stay different."""
    return layer.replace("-", "--").replace("/", "-").replace("#", "_").replace("[", "(").replace("]", ")")


def concatenate(results: Sequence[Visualization]) -> Visualization:
    """Joins results of one network and one setting (several layers of a sweep) into one.

    Raises:
      ValueError: nothing to join, or results with different snapshots.
    """
    if not results:
        raise ValueError("there are no results to join")
    first = results[0]
    if any(item.snapshot_steps != first.snapshot_steps for item in results):
        raise ValueError("results with different snapshot steps cannot be joined")

    def join(name: str, axis: int) -> Any:
        return jax.tree.map(lambda *leaves: np.concatenate(leaves, axis), *(getattr(item, name) for item in results))

    joined: dict[str, Any] = {
        "objective": _joined_objective([item.objective for item in results]),
        **{
            name: sum((getattr(item, name) for item in results), ())
            for name in ("labels", "layers", "status", "starts", "stopped")
        },
        **{
            name: join(name, 0)
            for name in ("units", "replicates", "inputs", "parameters", "scores", "steps_done", "scale", "strengths")
        },
        **{name: join(name, 1) for name in ("history", "snapshots", "way")},
    }
    return dataclasses.replace(first, **joined)


def _joined_objective(parts: Sequence[Bound | None]) -> Bound | None:
    """One objective of all lanes, where they climb the same with other units or arrays; else None."""
    found = [part for part in parts if part is not None]
    if len(found) < len(parts) or any(part.spec != found[0].spec for part in found):
        return None
    try:
        arrays = jax.tree.map(lambda *leaves: np.concatenate(leaves), *(part.arrays for part in found))
    except ValueError:
        # Targets of other shapes.
        return None
    labels, layers = (sum((getattr(part, name) for part in found), ()) for name in ("labels", "layers"))
    return Bound(found[0].spec, arrays, labels, layers, np.concatenate([part.units for part in found]))
