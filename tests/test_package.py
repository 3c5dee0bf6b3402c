"""The package as a whole: what importing it costs, what is public, what is optional, and that it knows no machine."""

from __future__ import annotations

import ast
import configparser
import importlib
import inspect
import json
import pathlib
import pkgutil
import re
import subprocess
import sys

import pytest

import nd_jax
from nd_jax import runtime

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
CORE = "jax, flax, flax.linen, optax, chex, numpy"
LOADED_WHERE_USED = """
    array_record etils.epath h5py matplotlib mido orbax parselmouth PIL scipy.io scipy.signal selenium soundfile
    tensorboardX tensorflow tensorflow_datasets torch tqdm tyro
"""


def run_python(code: str) -> str:
    """Runs code in a fresh interpreter and returns what it printed."""
    command = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def public_modules() -> list[str]:
    """Every module of the package; those of experiments and checkpoints are scripts and data."""
    found = pkgutil.walk_packages(nd_jax.__path__, "nd_jax.")
    names = [
        module.name for module in found if not module.name.startswith(("nd_jax.experiments", "nd_jax.checkpoints"))
    ]
    return [name for name in names if not any(part.startswith("_") for part in name.split("."))]


# ---------------------------------------------------------------------------------------------------------- import


def test_import_loads_nothing_until_a_name_is_used():
    """What importing costs is a figure of the benchmark (docs/numbers.md); that it is nearly nothing is this list."""
    code = f"""
import json, sys, {CORE}
before = set(sys.modules)
import nd_jax
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    assert json.loads(run_python(code)) == ["nd_jax"]


def test_import_loads_only_the_core_packages():
    """Nothing of a third party is loaded beyond what jax, flax, optax, chex and numpy load themselves."""
    code = f"""
import json, sys, {CORE}
before = set(sys.modules)
import nd_jax
for name in nd_jax.__all__:
    getattr(nd_jax, name)
new = {{name.split(".")[0] for name in set(sys.modules) - before}} - set(sys.stdlib_module_names) - {{"nd_jax"}}
print(json.dumps([sorted(new), [name for name in {LOADED_WHERE_USED.split()} if name in set(sys.modules) - before]]))
"""
    packages, modules = json.loads(run_python(code))
    already_loaded = {"jax", "jaxlib", "flax", "optax", "chex", "numpy"}
    assert set(packages) <= already_loaded, f"nd_jax loads {sorted(set(packages) - already_loaded)} at import"
    assert modules == []


def test_no_module_imports_an_optional_package_at_its_top():
    """The same for every module, also those that the public names do not reach: read from the source."""
    heavy = {name.split(".")[0] for name in LOADED_WHERE_USED.split()} - {"etils"} | {"scipy", "importlib_resources"}
    for path in sorted((REPOSITORY / "nd_jax").rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            else:
                continue
            loaded = {name.split(".")[0] for name in names} & heavy
            assert not loaded, f"{path.relative_to(REPOSITORY)} imports {sorted(loaded)} when it is imported"


# ---------------------------------------------------------------------------------------------------------- extras


def test_a_missing_extra_is_one_line_that_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(runtime.MissingExtraError) as caught:
        runtime.require("matplotlib", "report")
    message = str(caught.value)
    assert "\n" not in message
    assert "pip install 'nd_jax[report]'" in message


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(REPOSITORY / "setup.cfg", encoding="utf-8")
    return parser


def requirement_names(section: str) -> set[str]:
    """The normalised names of a requirement list of setup.cfg."""
    lines = [line.split("#")[0].strip() for line in section.splitlines()]
    return {re.split(r"[<>=!~;\[ ]", line)[0].lower().replace("-", "_") for line in lines if line}


def test_every_extra_that_the_code_names_exists_and_holds_the_module():
    distributions = {"PIL": "pillow", "parselmouth": "praat_parselmouth", "sklearn": "scikit_learn"}
    extras = setup_cfg()["options.extras_require"]
    calls = 0
    for folder in ("nd_jax", "experiments"):
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            for module, extra in re.findall(r"require\(\s*\"([\w.]+)\",\s*\"(\w+)\"", path.read_text(encoding="utf-8")):
                calls += 1
                assert extra in extras, f"{path}: no extra {extra!r} in setup.cfg"
                top = module.split(".")[0]
                assert distributions.get(top, top).lower() in requirement_names(extras[extra]), (path, module, extra)
    assert calls, "no optional package is asked for anywhere"


def test_core_requirements_are_the_eight_packages():
    core = requirement_names(setup_cfg()["options"]["install_requires"])
    eight = {"jax", "flax", "optax", "orbax_checkpoint", "tensorflow_datasets", "numpy", "soundfile", "chex"}
    undeclared_by_tfds = {"importlib_resources", "array_record"}
    assert core == eight | undeclared_by_tfds


def test_constraints_pin_what_is_installed_here():
    """The tested set is exact, and it is the one that this run tests."""
    from importlib.metadata import PackageNotFoundError, version

    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    needed = set()
    for section in [setup_cfg()["options"]["install_requires"], *setup_cfg()["options.extras_require"].values()]:
        needed |= requirement_names(section)
    assert needed <= {name.lower().replace("-", "_") for name in pins}
    for name in ("jax", "jaxlib", "flax", "optax", "chex", "numpy", "orbax-checkpoint", "tensorflow-datasets"):
        try:
            found = version(name)
        except PackageNotFoundError:
            continue
        if found != pins[name]:
            pytest.skip(f"this environment has {name} {found}, constraints.txt pins {pins[name]}")


# ------------------------------------------------------------------------------------------------------ public face


def test_public_names_are_exactly_those_of_all():
    assert sorted(dir(nd_jax)) == sorted(nd_jax.__all__)
    for name in nd_jax.__all__:
        assert getattr(nd_jax, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'vizualize'"):
        _ = nd_jax.vizualize


PROTOCOLS = (
    nd_jax.visualize.parameterizations.Parameterization,
    nd_jax.visualize.parameterizations.Invertible,
    nd_jax.visualize.penalties.Penalty,
    nd_jax.visualize.transforms.Transform,
)


def public_members(module):
    """(owner, name, object) of the public functions and classes that a module defines, and of the methods of these."""
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        if inspect.isclass(value) or inspect.isfunction(value):
            yield module, name, value
        if inspect.isclass(value):
            for method, function in vars(value).items():
                if isinstance(function, property):
                    function = function.fget
                function = getattr(function, "__func__", function)
                ours = inspect.isfunction(function) and function.__module__ == module.__name__
                if ours and not method.startswith("_") and method not in ("tree_flatten", "tree_unflatten"):
                    yield value, method, getattr(value, method)


def is_documented(module, owner, name, value) -> bool:
    """A docstring of its own or inherited, a member of a protocol, or named by the docstring of its class or module."""
    if inspect.getdoc(value) or any(inspect.getdoc(vars(protocol).get(name)) for protocol in PROTOCOLS):
        return True
    text = f"{inspect.getdoc(owner)} {inspect.getdoc(module)}" if inspect.isclass(owner) else ""
    return re.search(rf"\b{name}\b", text) is not None


@pytest.mark.parametrize("module_name", public_modules())
def test_public_names_have_docstrings_and_annotations(module_name):
    module = importlib.import_module(module_name)
    assert inspect.getdoc(module), f"{module_name} has no docstring"
    for owner, name, value in public_members(module):
        where = f"{module_name}.{name}" if owner is module else f"{module_name}.{owner.__name__}.{name}"
        assert is_documented(module, owner, name, value), f"{where} has no docstring"
        function = value.fget if isinstance(value, property) else value
        if not inspect.isfunction(function):
            continue
        signature = inspect.signature(function)
        assert signature.return_annotation is not inspect.Signature.empty, f"{where} has no return annotation"
        for parameter in signature.parameters.values():
            annotated = parameter.annotation is not inspect.Parameter.empty
            assert annotated or parameter.name in ("self", "cls"), f"{where}({parameter.name}) is not annotated"


# ------------------------------------------------------------------------------------------------------------ files


def tracked_text_files() -> list[pathlib.Path]:
    """What git tracks and can be read as text; the folders of an sdist when there is no git."""
    try:
        listing = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=True).stdout
        paths = [REPOSITORY / name for name in listing.decode().split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        folders = ("nd_jax", "experiments", "docs", "checkpoints")
        paths = [path for folder in folders for path in (REPOSITORY / folder).rglob("*") if path.is_file()]
    kinds = {".py", ".md", ".cfg", ".toml", ".txt", ".json", ".ipynb", ".html", ".css", ".js", ".yaml", ".cff", ""}
    return [path for path in paths if path.suffix in kinds and path.is_file() and "arrays" not in path.parts]


def test_no_machine_path_and_no_shared_folder_outside_the_tests():
    private = re.compile(
        r"(?<![\w./-])(/work/|/home/\w|/root/|/Users/\w|/opt/)|\.\./shared|[\"'`]shared/|ND_JAX_SHARED|file:///opt"
    )
    for path in tracked_text_files():
        relative = path.relative_to(REPOSITORY)
        if relative.parts[0] == "tests" or relative.name == "CONTRIBUTING.md":
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            found = private.search(line)
            assert not found, f"{relative}:{number} names {found.group()!r}"


def test_setup_cfg_lists_every_package():
    listed = set(setup_cfg()["options"]["packages"].split())
    on_disk = {
        ".".join(path.parent.relative_to(REPOSITORY).parts) for path in (REPOSITORY / "nd_jax").rglob("__init__.py")
    }
    for folder in ("checkpoints", "experiments"):
        found = (REPOSITORY / folder).rglob("__init__.py")
        on_disk |= {".".join(("nd_jax", *path.parent.relative_to(REPOSITORY).parts)) for path in found}
    assert listed == on_disk


def test_shipped_checkpoints_are_small():
    total = sum(path.stat().st_size for path in (REPOSITORY / "checkpoints").rglob("*") if path.is_file())
    assert total < 60e6, f"checkpoints/ holds {total / 1e6:.1f} MB"
