"""Occlusion, gradients, Grad-CAM, insertion and deletion as Captum and the authors of RISE compute them."""

from __future__ import annotations

import attribution_problem
import chex
import numpy as np
import pytest

import nd_jax as nd

TOLERANCE = {"atol": 1e-5, "rtol": 1e-4}
# Windows and strides over (channels, height, width), and the baseline, as the references' README has them.
CASES = {
    "image": [
        ((3, 4, 4), (3, 2, 2), 0.0),
        ((3, 5, 7), (3, 5, 7), 0.0),
        ((3, 4, 5), (3, 3, 4), "occ2_baseline"),
        ((1, 6, 6), (1, 4, 5), 0.25),
        ((3, 20, 24), (3, 20, 24), 0.0),
    ],
    "spec": [
        ((1, 8, 4), (1, 4, 2), 0.0),
        ((1, 8, 21), (1, 5, 21), "occ1_baseline"),
        ((1, 32, 3), (1, 32, 2), 0.0),
        ((1, 7, 6), (1, 5, 4), "occ3_baseline"),
        ((1, 3, 3), (1, 1, 1), -1.0),
    ],
}


def channels_last(sizes):
    return (*sizes[1:], sizes[0])


@pytest.mark.parametrize("name", ["image", "spec"])
def test_occlusion_is_captums(shared, name):
    network, known = attribution_problem.reference(shared, name)
    target = known["target"]
    for number, (window, stride, baseline) in enumerate(CASES[name]):
        options = {
            "window": channels_last(window),
            "stride": channels_last(stride),
            "baseline": known[baseline] if isinstance(baseline, str) else baseline,
        }
        found = nd.attribute.occlusion(network, known["x"], target.tolist(), **options)
        chex.assert_trees_all_close(found.values, known[f"occ{number}"], **TOLERANCE)
        several = nd.attribute.occlusion(network, known["x"], nd.objectives.probability(), chunk_size=100, **options)
        own = several.values[np.arange(2), target]
        chex.assert_trees_all_close(own, known[f"occ{number}_prob"], **TOLERANCE)


@pytest.mark.parametrize("name", ["image", "spec"])
def test_gradients_are_captums(shared, name):
    network, known = attribution_problem.reference(shared, name)
    x, target = known["x"], known["target"].tolist()
    chex.assert_trees_all_close(nd.attribute.saliency(network, x, target).values, known["saliency_abs"], **TOLERANCE)
    signed = nd.attribute.saliency(network, x, target, absolute=False)
    chex.assert_trees_all_close(signed.values, known["saliency_signed"], **TOLERANCE)
    found = nd.attribute.input_x_gradient(network, x, target)
    chex.assert_trees_all_close(found.values, known["input_x_gradient"], **TOLERANCE)
    for rule, steps, baseline in [
        ("gausslegendre", 50, 0.0),
        ("gausslegendre", 16, 0.0),
        ("riemann_trapezoid", 32, 0.0),
        ("riemann_middle", 24, 0.0),
        ("riemann_left", 20, 0.0),
        ("riemann_right", 20, 0.0),
        ("gausslegendre", 50, -0.5),
    ]:
        found = nd.attribute.integrated_gradients(network, x, target, steps=steps, rule=rule, baseline=baseline)
        key = f"ig_{rule}_{steps}_" + ("zero" if baseline == 0 else f"baseline{baseline}")
        chex.assert_trees_all_close(found.values, known[key], **TOLERANCE)
    chex.assert_trees_all_close(found.error, known[f"{key}_delta"].astype(np.float32), atol=2e-5)


@pytest.mark.parametrize("name", ["image", "spec"])
def test_grad_cam_is_captums(shared, name):
    network, known = attribution_problem.reference(shared, name)
    x, target = known["x"], known["target"].tolist()
    for layer in ("conv1", "conv2"):
        for relu in (False, True):
            found = nd.attribute.grad_cam(network, x, target, layer, relu=relu, resize=None)
            expected = known[f"gradcam_{layer}_relu{int(relu)}"][..., 0]
            chex.assert_trees_all_close(found.values, expected, **TOLERANCE)
    for method in ("nearest", "bilinear"):
        found = nd.attribute.grad_cam(network, x, target, "conv2", resize=method)
        expected = known[f"gradcam_conv2_relu1_upsampled_{method}"]
        chex.assert_trees_all_close(found.values, np.broadcast_to(expected, x.shape), **TOLERANCE)


@pytest.mark.parametrize("name", ["image", "spec"])
def test_insertion_and_deletion_are_those_of_rise(shared, name):
    network, _ = attribution_problem.reference(shared, name)
    known = dict(np.load(shared / "reference" / "metrics" / "insertion_deletion.npz"))
    case = {key.split("/", 1)[1]: value for key, value in known.items() if key.startswith(f"{name}/")}
    x = np.moveaxis(case["x"], 1, -1)
    for method in ("occ0", "saliency", "random"):
        found = nd.attribute.insertion_deletion(
            network,
            x,
            case[f"{method}_explanation"],
            case["target"].tolist(),
            step=13,
            baseline=0.0,
            chunk_size=16,
        )
        for way, curve, area in (
            ("del", found.deletion, found.deletion_area),
            ("ins", found.insertion, found.insertion_area),
        ):
            chex.assert_trees_all_close(curve, case[f"{method}_{way}_scores"], atol=1e-5)
            chex.assert_trees_all_close(area, case[f"{method}_{way}_auc"], atol=1e-5)
