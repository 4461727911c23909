"""Exported state dicts run in torchvision, behind our preprocessing: probabilities and logits within 1e-5."""

import numpy as np
import pytest
import reference
import torch
from torchvision.models import get_model

from ttl_jax import models, weights
from ttl_jax.deploy.export import torch as torch_format
from ttl_jax.deploy.export.forward import Forward

CLASSES = tuple("abcd")


@pytest.mark.parametrize(
    "name", ["resnet18", "densenet121", "vgg16_bn", "efficientnet_b0", "alexnet", "resnet18_3d"]
)
def test_a_state_dict_runs_in_torchvision(name, tmp_path):
    theirs = get_model(torch_format.OTHER_NAMES.get(name, name), num_classes=len(CLASSES)).eval()
    variables = weights.load(reference.fill(theirs.state_dict()), name)
    shape = models.input_shape(name, 64, depth=8)
    normalise = weights.preprocessing("imagenet", name)
    forward = Forward(
        name, models.create(name, len(CLASSES)), variables, normalise, shape, CLASSES, temperature=1.5
    )
    torch_format.write(forward, tmp_path / "model.pth", {})
    predict, runtime = torch_format.open(forward, tmp_path / "model.pth")
    images = np.random.default_rng(0).integers(0, 256, (2, *shape), np.uint8)
    assert runtime == "torchvision"
    np.testing.assert_allclose(predict(images), forward(images), atol=1e-5)

    theirs.load_state_dict(torch.load(tmp_path / "model.pth", weights_only=True), strict=False)
    given = torch.from_numpy(np.moveaxis(np.asarray(normalise.normalise(images)), -1, 1).copy())
    logits = theirs(given).detach().numpy()
    ours = np.asarray(forward.logits(variables, images)) * forward.temperature
    assert np.abs(logits - ours).max() < 1e-5 * np.abs(logits).max()
