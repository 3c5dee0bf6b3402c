"""The benchmark of convolutions at tiny sizes: all sides compute the same, and the table reaches its document."""

from __future__ import annotations

import chex
import jax
import numpy as np
import pytest
from jax import lax

from nd_jax.experiments import benchmark_convolutions as bench
from nd_jax.networks import conv

SHAPES = (
    bench.Shape("strided", (2, 9, 8, 3), (3, 3, 3, 4), (2, 2), ((0, 1), (0, 1))),
    bench.Shape("dilated", (2, 1, 20, 3), (1, 3, 3, 4), (1, 2), ((0, 0), (2, 2)), (1, 2)),
    bench.Shape("transposed", (2, 4, 5, 3), (5, 5, 3, 4), (2, 2), ((2, 3), (2, 3)), transposed=True),
    bench.Shape("transposed in one dimension", (2, 1, 6, 3), (1, 9, 3, 4), (1, 4), ((0, 0), (5, 6)), transposed=True),
)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_all_sides_compute_the_same(shape):
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(size).astype(np.float32) for size in (shape.x, shape.w))
    ours, native = shape.run(conv.conv_general_dilated), shape.run(lax.conv_general_dilated)
    g = rng.standard_normal(jax.eval_shape(native, x, w).shape).astype(np.float32)
    run = jax.jit(lambda *arrays: [{k: f(*arrays) for k, f in bench.directions(d).items()} for d in (ours, native)])
    found, wanted = run(x, w, g)
    chex.assert_trees_all_close(found, wanted, rtol=1e-4, atol=1e-4)
    pytest.importorskip("torch")
    theirs = bench.torch_calls(shape, x, w, g)
    tap = (2, 3, 0, 1) if shape.transposed else (2, 3, 1, 0)
    turn = (slice(None, None, -1),) * 2 if shape.transposed else (slice(None),) * 2
    y = theirs["forward"]().permute(0, 2, 3, 1).numpy()
    chex.assert_trees_all_close(y, np.asarray(wanted["forward"]), rtol=1e-4, atol=1e-4)
    kernel = theirs["kernel gradient"]()[1].permute(*tap).numpy()[turn]
    chex.assert_trees_all_close(kernel, np.asarray(wanted["kernel gradient"]), rtol=1e-4, atol=1e-4)
    image = theirs["input gradient"]()[0].permute(0, 2, 3, 1).numpy()
    (top, _), (left, _) = shape.padding
    if image.shape != shape.x:  # uneven padding is done before PyTorch's convolution
        image = image[:, top : top + shape.x[1], left : left + shape.x[2]]
    chex.assert_trees_all_close(image, np.asarray(wanted["input gradient"]), rtol=1e-4, atol=1e-4)


def test_a_row_is_measured_and_written(tmp_path, repository):
    row = bench.measure(SHAPES[0], repeats=1, with_torch=False)[0]
    assert {"XLA", "nd_jax", "XLA in scan", "nd_jax in scan"} < set(row)
    assert "PyTorch" not in row
    assert all(row[name] > 0 for name in row if name not in ("shape", "direction"))
    best = min(row["XLA"], row["nd_jax"])
    assert bench.line(row).count("**") == 2
    assert f"**{best:.3g}**" in bench.line(row)
    page = repository / "docs" / "convolutions.md"
    (tmp_path / "convolutions.md").write_text(page.read_text(encoding="utf-8"), encoding="utf-8")
    for text in ("first table", "second table"):
        bench.write(tmp_path, text, [row | {"PyTorch": 1.0, "direction": name} for name in bench.DIRECTIONS])
    written = (tmp_path / "convolutions.md").read_text(encoding="utf-8")
    assert "second table" in written
    assert "first table" not in written
    assert (tmp_path / "images" / "convolutions.png").stat().st_size > 1000
    (tmp_path / "convolutions.md").write_text("no marks", encoding="utf-8")
    with pytest.raises(SystemExit, match="to write between"):
        bench.write(tmp_path, "table", [row])


def test_every_shape_is_a_convolution():
    """The shapes of the table are possible, and their names differ."""
    assert len({shape.name for shape in bench.SHAPES}) == len(bench.SHAPES)
    for shape in bench.SHAPES:
        y = jax.eval_shape(
            shape.run(lax.conv_general_dilated), *(jax.ShapeDtypeStruct(s, np.float32) for s in (shape.x, shape.w))
        )
        assert min(y.shape) > 0
