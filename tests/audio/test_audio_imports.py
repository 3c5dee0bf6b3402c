"""The audio room loads nothing that a bare compute machine lacks."""

import subprocess
import sys


def test_import_loads_only_numpy_and_jax():
    code = (
        "import sys, jax, jax.numpy; before = set(sys.modules); import nd_jax.audio; "
        "new = {name.split('.')[0] for name in set(sys.modules) - before}; "
        "print(sorted(new & {'scipy', 'soundfile', 'flax', 'optax', 'orbax', 'tqdm', 'tensorflow_datasets'}))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
