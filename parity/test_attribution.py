"""Maps of attribution within 1e-4 of pytorch-grad-cam's and captum's, on one small ResNet at 64 px."""

import captum.attr
import cv2
import jax.numpy as jnp
import numpy as np
import pytest
import pytorch_grad_cam
import reference
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection

from ttl_jax import models, weights
from ttl_jax.analysis.attribution import enlarged, make_attribution

CLASSES = [3, 7]
LAYERS = {"stage2/block2": "layer2", "stage4/block2": "layer4"}  # 8 x 8 and 2 x 2 places


@pytest.fixture(scope="module")
def networks():
    """ResNet-18 with the same random weights in torch and here, and two normalised images."""
    network = reference.build("resnet18", classes=10)
    variables = weights.load(reference.fill(network.state_dict()), "resnet18")
    images = reference.image(64)
    return network, models.create("resnet18", 10), variables, images


def ours(networks, method, unit=None, classes=CLASSES):
    _, network, variables, images = networks
    find = make_attribution(method, network, lambda images: images, unit)
    return np.asarray(find(variables, jnp.asarray(images), jnp.asarray(classes)))


def scaled(maps):
    """From 0 to 1 an image, as pytorch-grad-cam hands them out."""
    above = maps - maps.min(axis=(1, 2), keepdims=True)
    return above / (1e-7 + above.max(axis=(1, 2), keepdims=True))


@pytest.mark.parametrize("unit", LAYERS)
@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("grad_cam", pytorch_grad_cam.GradCAM),
        ("grad_cam_pp", pytorch_grad_cam.GradCAMPlusPlus),
        ("hires_cam", pytorch_grad_cam.HiResCAM),
    ],
)
def test_class_activation_maps(networks, method, kind, unit):
    network, _, _, images = networks
    seen = np.zeros(2)  # a class may have evidence against it only: an empty map
    for classes in ([3, 7], [0, 1], [5, 2]):
        targets = [ClassifierOutputTarget(place) for place in classes]
        with kind(network, [getattr(network, LAYERS[unit])]) as cam:
            want = cam(torch.from_numpy(images).movedim(-1, 1), targets)
        # Theirs scales before and after it enlarges: between the centres of places no peak is reached.
        found = scaled(np.asarray(enlarged(scaled(ours(networks, method, unit, classes)), (64, 64))))
        np.testing.assert_allclose(found, want, atol=1e-4)
        seen = np.maximum(seen, want.max(axis=(1, 2)))
    assert (seen > 0.5).all()


@pytest.mark.parametrize("unit", LAYERS)
def test_eigen_cam(networks, unit):
    """Their sign is LAPACK's whim: the side that ours takes is compared."""
    network, _, _, images = networks
    features = reference.activations(network, {unit: (LAYERS[unit], lambda x: x)}, images)[unit]
    first = get_2d_projection(np.moveaxis(features, -1, 1))
    peak = np.take_along_axis(first.reshape(2, -1), np.abs(first).reshape(2, -1).argmax(1)[:, None], axis=1)
    want = np.maximum(first * np.sign(peak)[:, :, None], 0)
    np.testing.assert_allclose(ours(networks, "eigen_cam", unit), want, atol=1e-4 * want.max())
    with pytorch_grad_cam.EigenCAM(network, [getattr(network, LAYERS[unit])]) as cam:
        theirs = cam(torch.from_numpy(images).movedim(-1, 1), None)
    same = np.flatnonzero(peak[:, 0] > 0)
    found = enlarged(scaled(ours(networks, "eigen_cam", unit)), (64, 64))
    np.testing.assert_allclose(np.asarray(found)[same], theirs[same], atol=1e-4)


def test_integrated_gradients(networks):
    network, _, _, images = networks
    inputs = torch.from_numpy(images).movedim(-1, 1).contiguous()
    reset = [module for module in network.modules() if isinstance(module, torch.nn.ReLU)]
    for module in reset:
        module.inplace = False
    explained = captum.attr.IntegratedGradients(network).attribute(inputs, target=torch.tensor(CLASSES))
    want = explained.sum(dim=1).detach().numpy()
    # Where a ReLU is at its kink on the way, rounding decides on which side: a few pixels are a little off.
    error = np.abs(ours(networks, "integrated_gradients") - want) / np.abs(want).max()
    assert error.max() < 1e-3 and error.mean() < 1e-5


def test_occlusion(networks):
    network, _, _, images = networks
    inputs = torch.from_numpy(images).movedim(-1, 1).contiguous()
    want = captum.attr.Occlusion(network).attribute(
        inputs, (3, 8, 8), strides=(3, 8, 8), target=torch.tensor(CLASSES), perturbations_per_eval=16
    )
    want = want[:, 0, ::8, ::8].detach().numpy()
    np.testing.assert_allclose(ours(networks, "occlusion"), want, atol=1e-4 * np.abs(want).max())


def test_enlarging_is_opencvs():
    maps = np.random.default_rng(0).random((2, 5, 7), np.float32)
    want = np.stack([cv2.resize(each, (64, 48)) for each in maps])
    np.testing.assert_allclose(enlarged(maps, (48, 64)), want, atol=1e-5)
