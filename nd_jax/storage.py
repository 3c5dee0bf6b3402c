"""Networks on disk: one folder with `network.json` (readable) and `arrays/` (Orbax). No pickle, anywhere.

A folder from a stranger is data, not code: symbolic links are refused (they could pull other files into an array), the
module is built only from a family on the allow-list of `nd_jax.networks` or from the `module=` that the caller gives,
and every array must have the shape that this module expects, so that no file decides how much memory is used.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import os
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from nd_jax import domain as domains
from nd_jax import edits as edit_kinds
from nd_jax.network import Network
from nd_jax.runtime import nearest

FORMAT = 1
_JSON = "network.json"
_ARRAYS = "arrays"
_NOTE = "commit_success.txt"
_LARGEST_DOMAIN_ARRAY = 1 << 22
# Types that weights can be stored in with half their size; `params` alone, statistics keep theirs.
HALF = ("float16", "bfloat16")
_VERSIONED = ("jax", "flax", "orbax-checkpoint", "numpy")


class NetworkFileError(ValueError):
    """A network folder that cannot be read or written; the message names the folder and the reason."""


def shipped() -> dict[str, pathlib.Path]:
    """The trained networks that come with nd_jax: {name: folder}."""
    package = pathlib.Path(__file__).resolve().parent
    found: dict[str, pathlib.Path] = {}
    for root in (package / "checkpoints", package.parent / "checkpoints"):
        if root.is_dir():
            for folder in sorted(root.iterdir()):
                if (folder / _JSON).is_file():
                    found.setdefault(folder.name, folder)
    return found


def save(network: Network, path: Any, *, overwrite: bool = False, dtype: str | None = None) -> pathlib.Path:
    """Writes a network to a folder, all or nothing.

    Args:
      network: what to save.
      path: the folder to make.
      overwrite: replace a network that is there already; any other folder is never touched.
      dtype: "float16" or "bfloat16" stores the float32 parameters in it, in half the space; `load` gives float32 again,
        rounded to 11 or 8 bits. Statistics and the arrays of domains stay as they are. None keeps all as it is.

    Returns:
      The folder.

    Raises:
      NetworkFileError: something is in the way, the disk refuses, or the network holds what cannot be written
        (a plain function as an edit, a module whose settings are not plain values, parameters too large for `dtype`).
    """
    folder = pathlib.Path(path).expanduser().absolute()
    description = _describe(network)
    if folder.exists():
        if not overwrite:
            raise NetworkFileError(f"{folder} exists already; pass overwrite=True to replace the network in it")
        if not (folder / _JSON).is_file():
            raise NetworkFileError(f"{folder} is not a network's folder, so it is not replaced")
    tree = {"variables": _plain(network.variables), "domains": _domain_arrays(network)}
    tree = jax.tree.map(np.asarray, {name: part for name, part in tree.items() if part})
    if dtype is not None:
        halved = _halved(network, dtype)
        if halved:
            tree["variables"]["params"] = halved
            description["stored"] = dtype
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
            draft = pathlib.Path(scratch) / folder.name
            draft.mkdir()
            # A network without weights has no arrays, and Orbax refuses to write none.
            if jax.tree.leaves(tree):
                _write_arrays(draft / _ARRAYS, tree)
                description["arrays"] = _fingerprint(draft / _ARRAYS)
            (draft / _JSON).write_text(json.dumps(description, indent=1, allow_nan=False) + "\n", encoding="utf-8")
            if folder.exists():
                old = pathlib.Path(scratch) / "replaced"
                os.replace(folder, old)
            os.replace(draft, folder)
    except OSError as error:
        raise NetworkFileError(f"cannot write a network to {folder}: {error.strerror or error}") from error
    return folder


def load(path: Any, *, module: nn.Module | None = None) -> Network:
    """Reads a network that `Network.save` wrote, or one that ships with nd_jax.

    Args:
      path: a folder; or the name of a shipped network, with or without `checkpoints/` before it.
      module: the Flax module, for a family of your own that is not registered (`nd_jax.networks.register`).

    Raises:
      NetworkFileError: no such folder, a symbolic link in it, an unknown family, arrays of unexpected shapes, or a file
        that cannot be read; one sentence with the reason.
    """
    folder = _find(path)
    _refuse_links(folder)
    description = _read_json(folder)
    built = module if module is not None else _build(folder, description)
    try:
        arrays = description.get("domain_arrays", {})
        shapes = {side: _checked_shapes(folder, arrays.get(side, {})) for side in ("input", "output")}
        skeleton = {side: domains.from_dict(description[side], shapes[side]) for side in ("input", "output")}
        labels, kwargs = description.get("labels") or (), description.get("apply_kwargs") or {}
        edits = tuple(edit_kinds.from_dict(item) for item in description.get("edits", ()))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise NetworkFileError(f"{folder / _JSON} does not describe a network: {_sentence(error)}") from None
    expected = _expected(folder, built, skeleton["input"], kwargs)
    target: dict[str, Any] = {"variables": _chosen(folder, expected, description.get("collections"))}
    kept = {side: part for side, part in shapes.items() if part}
    if kept:
        target["domains"] = kept
    if (folder / _ARRAYS).is_dir() and _fingerprint(folder / _ARRAYS) != description.get("arrays"):
        raise NetworkFileError(f"the arrays of {folder} are damaged: they are not those its {_JSON} was written with")
    tree = _read_arrays(folder, target) if jax.tree.leaves(target) else target
    found = tree.get("domains", {})
    if "stored" in description and "params" in tree["variables"]:
        tree["variables"] = _widened(folder, tree["variables"], description["stored"])
    try:
        return Network(
            built,
            jax.tree.map(jnp.asarray, tree["variables"]),
            input=domains.from_dict(description["input"], found.get("input")),
            output=domains.from_dict(description["output"], found.get("output")),
            labels=labels,
            apply_kwargs=kwargs,
            card=description.get("card") or {},
            edits=edits,
            fast_convolutions=description.get("fast_convolutions", False),
        )
    except (TypeError, ValueError) as error:
        raise NetworkFileError(f"{folder / _JSON} does not fit its network: {_sentence(error)}") from None


def _find(path: Any) -> pathlib.Path:
    given = pathlib.Path(path).expanduser()
    if given.is_dir():
        if not (given / _JSON).is_file():
            raise NetworkFileError(f"{given} is a folder without {_JSON}: it was not written by Network.save")
        return given.absolute()
    if given.exists():
        raise NetworkFileError(f"{given} is a file; a network is a folder with {_JSON} in it")
    names = shipped()
    relative = given.parts[1:] if given.parts[:1] == ("checkpoints",) else given.parts
    if len(relative) == 1 and relative[0] in names and not given.is_absolute():
        return names[relative[0]]
    raise NetworkFileError(f"no network at {given}; {nearest(given.name, [f'checkpoints/{name}' for name in names])}")


def _refuse_links(folder: pathlib.Path) -> None:
    for root, directories, files in os.walk(folder):
        for name in (*directories, *files):
            if os.path.islink(os.path.join(root, name)):
                raise NetworkFileError(
                    f"{os.path.join(root, name)} is a symbolic link; a network's folder may hold none"
                )


def _read_json(folder: pathlib.Path) -> dict[str, Any]:
    try:
        description = json.loads((folder / _JSON).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise NetworkFileError(f"{folder / _JSON} cannot be read: {_sentence(error)}") from None
    if not isinstance(description, dict) or "input" not in description or "output" not in description:
        raise NetworkFileError(f"{folder / _JSON} does not describe a network: 'input' or 'output' is missing")
    if description.get("format") != FORMAT:
        raise NetworkFileError(f"{folder / _JSON} has format {description.get('format')!r}; this nd_jax reads {FORMAT}")
    return description


def _build(folder: pathlib.Path, description: Mapping[str, Any]) -> nn.Module:
    from nd_jax import networks

    family = description.get("family")
    if not isinstance(family, str):
        made_of = description.get("module", "a module of your own")
        raise NetworkFileError(f"{folder} holds {made_of}, which is no family of nd_jax: pass load(path, module=...)")
    try:
        return networks.build(family, description.get("config") or {})
    except (TypeError, ValueError) as error:
        raise NetworkFileError(f"{folder / _JSON}: {_sentence(error)}") from None


def _expected(folder: pathlib.Path, module: nn.Module, domain: domains.Domain, kwargs: Mapping[str, Any]) -> Any:
    def initialise(x: Any) -> Any:
        key = jax.random.key(0)
        return module.init({"params": key, "dropout": key}, x, **kwargs)

    try:
        variables = jax.eval_shape(initialise, domain.abstract(1))
    except Exception as error:
        raise NetworkFileError(
            f"the module {type(module).__name__} of {folder} does not take its input {domain.shape}: {_sentence(error)}"
        ) from None
    return _plain({name: part for name, part in variables.items() if name != "intermediates"})


def _chosen(folder: pathlib.Path, expected: dict[str, Any], collections: Any) -> dict[str, Any]:
    """The collections that were saved: a module may make others anew in every pass (losses that it sows)."""
    if not isinstance(collections, list) or not all(name in expected for name in collections):
        raise NetworkFileError(
            f"{folder / _JSON} lists the collections {collections!r}; its module has {list(expected)}"
        )
    return {name: expected[name] for name in collections}


def _checked_shapes(folder: pathlib.Path, declared: Any) -> Any:
    if isinstance(declared, Mapping):
        return {name: _checked_shapes(folder, shape) for name, shape in declared.items()}
    if not isinstance(declared, list) or not all(isinstance(size, int) and size >= 0 for size in declared):
        raise ValueError(f"{declared!r} is not an array's shape")
    if math.prod(declared) > _LARGEST_DOMAIN_ARRAY:
        raise ValueError(f"an array of shape {declared} is too large for a domain")
    return jax.ShapeDtypeStruct(tuple(declared), jnp.float32)


def _describe(network: Network) -> dict[str, Any]:
    from nd_jax import networks

    for item in network.edits:
        if isinstance(item, tuple):
            raise NetworkFileError(
                f"layer {item[0]!r} is edited by a plain function, which cannot be saved; "
                "use nd_jax.taps.Ablate, Scale, Clamp or Insert"
            )
    description: dict[str, Any] = {"format": FORMAT}
    try:
        description["family"] = networks.family_of(network.module)
    except ValueError:
        description["module"] = f"{type(network.module).__module__}.{type(network.module).__qualname__}"
    else:
        try:
            description["config"] = networks.config_of(network.module)
        except ValueError as error:
            raise NetworkFileError(str(error)) from None
    labels: Any = network.labels
    labels = {part: list(names) for part, names in labels.items()} if isinstance(labels, Mapping) else list(labels)
    description |= {
        "input": network.input.to_dict(),
        "output": network.output.to_dict(),
        "collections": list(network.variables),
        "domain_arrays": jax.tree.map(lambda array: list(np.shape(array)), _domain_arrays(network)),
        "labels": labels,
        "apply_kwargs": dict(network.apply_kwargs),
        "edits": [item.to_dict() for item in network.edits],
        "fast_convolutions": network.fast_convolutions,
        "card": dict(network.card),
        "versions": {name: importlib.metadata.version(name) for name in _VERSIONED},
    }
    try:
        json.dumps(description, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise NetworkFileError(f"this network's settings are not plain values: {_sentence(error)}") from None
    return description


def _domain_arrays(network: Network) -> dict[str, Any]:
    found = {"input": network.input.arrays(), "output": network.output.arrays()}
    return {side: arrays for side, arrays in found.items() if arrays}


def _plain(tree: Any) -> Any:
    return {name: _plain(part) for name, part in tree.items()} if isinstance(tree, Mapping) else tree


def _halved(network: Network, dtype: str) -> Any:
    """The parameters with float32 in a half-precision type."""
    if dtype not in HALF:
        raise NetworkFileError(
            f"weights are stored as {' or '.join(map(repr, HALF))}, or with None as they are: {dtype!r}"
        )
    largest = float(jnp.finfo(dtype).max)

    def halve(array: Any) -> np.ndarray:
        array = np.asarray(array)
        if array.dtype != np.float32:
            return array
        if array.size and np.nanmax(np.abs(array)) > largest:
            raise NetworkFileError(
                f"a parameter of {np.nanmax(np.abs(array)):g} does not fit {dtype}; leave dtype away"
            )
        return array.astype(jnp.dtype(dtype))

    return jax.tree.map(halve, _plain(network.variables.get("params", {})))


def _widened(folder: pathlib.Path, variables: dict[str, Any], stored: Any) -> dict[str, Any]:
    """The variables with parameters in float32 again."""
    if stored not in HALF:
        raise NetworkFileError(f"{folder / _JSON} says that weights are stored as {stored!r}, not as one of {HALF}")
    half = jnp.dtype(stored)
    params = jax.tree.map(lambda leaf: leaf.astype(np.float32) if leaf.dtype == half else leaf, variables["params"])
    return {**variables, "params": params}


def _checkpointer() -> Any:
    """Orbax's, which waits for no other process: of several hosts one writes, and each reads for itself."""
    import orbax.checkpoint as ocp

    me = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(primary_host=me, active_processes={me})
    return ocp.StandardCheckpointer(multiprocessing_options=alone)


def _write_arrays(folder: pathlib.Path, tree: Any) -> None:
    with _checkpointer() as checkpointer:
        checkpointer.save(folder, tree)
        checkpointer.wait_until_finished()
    # Orbax notes where it wrote, which is a folder of this machine that is gone when the network is moved into place.
    note = folder / _NOTE
    if note.exists():
        note.write_text("complete\n", encoding="utf-8")


def _fingerprint(folder: pathlib.Path) -> str:
    """Sixteen hexadecimal digits of the names and bytes of all files of a folder.

    Checked before Orbax reads them: it answers a damaged file with tracebacks from its own threads.
    """
    found = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != _NOTE):
        content = path.read_bytes()
        found.update(f"{path.relative_to(folder).as_posix()} {len(content)}\n".encode())
        found.update(content)
    return found.hexdigest()[:16]


def _read_arrays(folder: pathlib.Path, target: Any) -> Any:
    arrays = folder / _ARRAYS
    if not arrays.is_dir():
        raise NetworkFileError(f"{folder} has no folder {_ARRAYS!r} with the weights")
    try:
        with _checkpointer() as checkpointer:
            stored = checkpointer.metadata(arrays).item_metadata
            if stored is None:
                raise NetworkFileError(f"the arrays in {arrays} cannot be read: their list is missing or damaged")
            _compare(folder, _shapes(target), _shapes(getattr(stored, "tree", stored)))
            # Only now that every shape is the module's own is any memory taken.
            kinds = _dtypes(folder, getattr(stored, "tree", stored))
            numpy_target = jax.tree_util.tree_map_with_path(
                lambda keys, leaf: np.zeros(leaf.shape, kinds[_joined(keys)]), target
            )
            return checkpointer.restore(arrays, numpy_target)
    except NetworkFileError:
        raise
    except Exception as error:
        raise NetworkFileError(f"the arrays in {arrays} cannot be read: {_sentence(error)}") from None


def _joined(keys: Any) -> str:
    return "/".join(str(getattr(key, "key", key)) for key in keys)


def _dtypes(folder: pathlib.Path, stored: Any) -> dict[str, np.dtype]:
    """The type of every stored array: weights come back as they were saved, and only plain numbers are weights."""
    leaves = jax.tree_util.tree_leaves_with_path(stored, is_leaf=lambda node: hasattr(node, "shape"))
    found = {_joined(keys): jnp.dtype(leaf.dtype) for keys, leaf in leaves}
    for name, kind in found.items():
        if not (jnp.issubdtype(kind, jnp.number) or kind == jnp.dtype(bool)):
            raise NetworkFileError(f"array {name!r} of {folder} holds {kind} values, not numbers")
    return found


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda node: hasattr(node, "shape"))
    return {_joined(keys): tuple(leaf.shape or ()) for keys, leaf in leaves}


def _compare(folder: pathlib.Path, expected: dict[str, tuple[int, ...]], stored: dict[str, tuple[int, ...]]) -> None:
    for name, shape in expected.items():
        if name not in stored:
            raise NetworkFileError(f"{folder} has no array {name!r} {shape}, which its module expects")
        if stored[name] != shape:
            raise NetworkFileError(f"array {name!r} of {folder} has shape {stored[name]}; its module expects {shape}")
    for name in stored:
        if name not in expected:
            raise NetworkFileError(f"{folder} has an array {name!r} that its module does not know")


def _sentence(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__


__all__ = ["NetworkFileError", "load", "save", "shipped"]
