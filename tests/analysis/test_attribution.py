"""Attribution against the formulas written out in NumPy, for heads whose derivative is known by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.decomposition import PCA

from ttl_jax import models, registry
from ttl_jax.analysis import attribution
from ttl_jax.analysis.attribution import enlarged, last_map, make_attribution, map_unit
from ttl_jax.analysis.overlay import outlined, overlay
from ttl_jax.errors import UserError

CLASSES = np.array([2, 0])


def normalise(images):
    return images.astype(jnp.float32) / 255


class Made:
    """A small network with random weights, head included, two images, and its last map."""

    def __init__(self, name, cut, shape, head="gap"):
        random = np.random.default_rng(0)
        self.network = models.create(name, 3, cut=cut, head=head)
        self.images = random.integers(256, size=(2, *shape, 3), dtype=np.uint8)
        variables = self.network.init(jax.random.key(1), jnp.zeros((1, *shape, 3)))
        random = np.random.default_rng(2)
        self.head = jax.tree.map(  # a fresh one is all 0
            lambda leaf: random.normal(size=leaf.shape).astype(np.float32), variables["params"]["head"]
        )
        self.variables = {**variables, "params": {**variables["params"], "head": self.head}}
        self.unit = self.network.units[-1].name
        _, captured = self.network.apply(self.variables, normalise(self.images), capture=(self.unit,))
        self.features = np.asarray(captured[self.unit], np.float64)
        self.space = tuple(range(1, self.features.ndim - 1))
        self.places = np.prod(self.features.shape[1:-1])

    def logits(self, images):
        return np.asarray(self.network.apply(self.variables, images.astype(np.float32)), np.float64)

    def maps(self, method, classes=CLASSES):
        find = make_attribution(method, self.network, normalise, self.unit)
        return np.asarray(find(self.variables, self.images, classes))

    def slope(self, classes=CLASSES):
        """Of each logit by the last map, under a pooled linear head: the same everywhere."""
        rows = self.head["kernel"].T[classes].reshape(2, *(1 for _ in self.space), -1)
        return np.broadcast_to(rows / self.places, self.features.shape)


@pytest.fixture(scope="module", params=["image", "volume"])
def made(request):
    if request.param == "image":
        return Made("cbr_tiny", "stage2/pool", (32, 32))
    return Made("resnet18_3d", "stem", (4, 8, 8))


def close(found, want):
    assert want.max() > 0
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5 * want.max())


@pytest.mark.parametrize("classes", [[0, 2], [1, 1], [2, 0]])
def test_grad_cam_under_a_pooled_linear_head_is_the_class_activation_map(made, classes):
    weights = made.head["kernel"].T[np.array(classes)] / made.places
    want = np.maximum(np.einsum("n...c,nc->n...", made.features, weights), 0)
    np.testing.assert_allclose(
        made.maps("grad_cam", np.array(classes)), want, rtol=1e-4, atol=1e-5 * np.abs(want).max() + 1e-9
    )


def test_through_a_hidden_layer_only_active_units_count():
    made = Made("cbr_tiny", "stage2/pool", (32, 32), "mlp")
    hidden = made.features.mean(axis=(1, 2)) @ made.head["hidden"]["kernel"] + made.head["hidden"]["bias"]
    active = (hidden > 0)[:, :, None] * made.head["out"]["kernel"][None]
    slope = np.einsum("ch,nhk->nck", made.head["hidden"]["kernel"], active)  # of each logit by the mean
    seen = 0.0  # some classes have evidence against them only: an empty map
    for place in range(3):
        want = np.maximum(np.einsum("nhwc,nc->nhw", made.features, slope[..., place] / made.places), 0)
        seen = max(seen, want.max())
        np.testing.assert_allclose(
            made.maps("grad_cam", np.full(2, place)), want, rtol=1e-4, atol=1e-5 * want.max() + 1e-9
        )
    assert seen > 0


def test_grad_cam_pp(made):
    """Channel by channel, place by place, as eq. 19 and 12 have it."""
    want = np.zeros(made.features.shape[:-1])
    for n in range(2):
        for k in range(made.features.shape[-1]):
            activation, slope = made.features[n, ..., k], made.slope()[n, ..., k]
            alpha = slope**2 / (2 * slope**2 + activation.sum() * slope**3 + 1e-6)
            want[n] += (alpha * np.maximum(slope, 0)).sum() * activation
    close(made.maps("grad_cam_pp"), np.maximum(want, 0))


def test_hires_cam_adds_up_to_the_logit_under_a_linear_head_on_the_whole_map():
    made = Made("cbr_tiny", "stage2/pool", (32, 32), "flatten")
    kernel = np.asarray(made.head["kernel"], np.float64).reshape(*made.features.shape[1:], 3)
    parts = (made.features * kernel[..., CLASSES].transpose(3, 0, 1, 2)).sum(axis=-1)
    logit = parts.sum(axis=(1, 2)) + made.head["bias"][CLASSES]
    np.testing.assert_allclose(made.logits(made.images / 255)[np.arange(2), CLASSES], logit, rtol=1e-4)
    close(made.maps("hires_cam"), np.maximum(parts, 0))


def test_eigen_cam_is_the_first_principal_component_with_its_peak_up(made):
    found = made.maps("eigen_cam")
    for n in range(2):
        first = PCA(1, svd_solver="full").fit_transform(made.features[n].reshape(made.places, -1))[:, 0]
        first = first * np.sign(first[np.abs(first).argmax()])
        close(found[n].ravel(), np.maximum(first, 0))
    np.testing.assert_array_equal(found, made.maps("eigen_cam", np.array([1, 1])))  # it knows no class


def test_integrated_gradients_add_up_and_agree_with_a_fine_sum(made):
    found, inputs = made.maps("integrated_gradients"), made.images / np.float32(255)
    picked = np.arange(2), CLASSES
    whole = made.logits(inputs)[picked] - made.logits(np.zeros_like(inputs))[picked]
    np.testing.assert_allclose(found.sum(axis=made.space), whole, rtol=2e-3)
    if len(made.space) == 3:
        return  # XLA takes a second for a derivative by a volume on a CPU

    @jax.jit
    def slope(images):
        return jax.grad(lambda x: made.network.apply(made.variables, x)[picked].sum())(images)

    count = 400
    mean = sum(np.asarray(slope(inputs * ((k + 0.5) / count)), np.float64) for k in range(count)) / count
    want = (inputs * mean).sum(axis=-1)
    assert np.abs(found - want).max() < 0.02 * np.abs(want).max()


def test_occlusion_is_what_the_logit_loses_patch_by_patch(made):
    found, inputs = made.maps("occlusion"), made.images / np.float32(255)
    grid = found.shape[1:]
    assert grid == ((8, 8) if len(grid) == 2 else (4, 8, 8))
    picked = np.arange(2), CLASSES
    whole, random = made.logits(inputs)[picked], np.random.default_rng(0)
    for patch in random.choice(np.prod(grid), 12, replace=False):
        covered = inputs.copy()
        sizes = [side // count for side, count in zip(inputs.shape[1:-1], grid, strict=True)]
        place = np.unravel_index(patch, grid)
        window = tuple(slice(k * size, (k + 1) * size) for k, size in zip(place, sizes, strict=True))
        covered[:, *window] = 0
        lost = whole - made.logits(covered)[picked]
        np.testing.assert_allclose(found[:, *place], lost, atol=1e-4 * np.abs(whole).max())


def test_every_method_is_registered_with_maps_that_fit():
    made = Made("cbr_tiny", "stage2/pool", (36, 44))  # sides that 8 does not divide
    names = registry.names("attribution")
    assert {"grad_cam", "grad_cam_pp", "hires_cam", "eigen_cam", "integrated_gradients", "occlusion"} == {
        *names
    }
    for name in names:
        maps = made.maps(name)
        assert np.isfinite(maps).all() and enlarged(maps, (36, 44)).shape == (2, 36, 44)
        assert attribution.takes_unit(name) == (maps.shape[1:] == made.features.shape[1:-1])


@pytest.mark.parametrize(("size", "unit"), [(64, "stage5/conv3"), (128, "stage5/pool"), (2, None)])
def test_the_topmost_map_with_places_enough_is_taken(size, unit):
    network = models.create("vgg16", 2)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    if unit is None:
        with pytest.raises(UserError, match="too small"):
            last_map(network, shapes, normalise, (size, size, 3))
    else:
        assert last_map(network, shapes, normalise, (size, size, 3)) == unit


def test_a_unit_by_name_by_number_and_wrongly():
    network = models.create("vgg16", 2)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 224, 224, 3)))
    given = network, shapes, normalise, (224, 224, 3)
    assert map_unit(*given) == "stage5/pool" and map_unit(*given, "1") == "stage1/conv1"
    assert map_unit(*given, "stage3/pool") == "stage3/pool"
    for wrong, said in (("99", "units 1 to"), ("stage3/pol", "stage3/pool"), ("classifier/fc1", "no map")):
        with pytest.raises(UserError, match=said):
            map_unit(*given, wrong)
    with pytest.raises(UserError, match="none called"):
        make_attribution("grad_cam", network, normalise)
    with pytest.raises(UserError, match="did you mean 'grad_cam'"):
        make_attribution("gradcam", network, normalise)


def test_the_overlay_leaves_what_has_no_evidence():
    image = np.full((8, 8, 3), 100, np.uint8)
    heat = np.zeros((4, 4))
    np.testing.assert_array_equal(overlay(image, heat), image)
    np.testing.assert_array_equal(overlay(image, heat - 1), image)  # nor where it speaks against the class
    heat[0, 0] = 3.0
    covered = overlay(image, heat).astype(int)
    assert abs(covered[0, 0] - 100).max() > 50 and (covered[4:, 4:] == 100).all()


def test_the_outline_is_the_border_of_the_mask_alone():
    mask = np.zeros((4, 4), bool)
    mask[1:3, 1:3] = True
    drawn = (outlined(np.zeros((32, 32, 3), np.uint8), mask) > 0).any(axis=-1)
    want = np.zeros((32, 32), bool)
    want[8:24, 8:24] = True
    want[10:22, 10:22] = False
    np.testing.assert_array_equal(drawn, want)
