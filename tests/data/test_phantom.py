"""The phantom: pure functions of their names, honest splits, and tasks that are what they say."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ttl_jax.data import DataConfig, load
from ttl_jax.data import phantom as ph
from ttl_jax.data.phantom import brushes, outline
from ttl_jax.data.phantom.other_hospital import other_hospital
from ttl_jax.errors import UserError

CONFIG = DataConfig(name="phantom/dermoscopy", image_size=32, phantom_patients=40)
EVERY_TASK = list(itertools.product(ph.MODALITIES, ph.TASKS))


def sample(phantom, patients, *, first=0, size=64):
    """One image of each patient, with the labels."""
    label = ph.labels(phantom, first + patients)[first:]
    pictures = [ph.render(phantom, first + k, 0, int(label[k]), size) for k in range(patients)]
    return pictures, label


def statistics(images):
    """Mean, spread and differences over 1 to 6 pixels of the grey level: (n, 7), no shape in them."""
    grey = np.stack(images).astype(np.float64).mean(-1)
    columns = [grey.mean((1, 2)), grey.std((1, 2))]
    for step in (1, 2, 3, 4, 6):
        down = np.abs(grey[:, step:] - grey[:, :-step]).mean((1, 2))
        along = np.abs(grey[:, :, step:] - grey[:, :, :-step]).mean((1, 2))
        columns.append(down + along)
    return np.stack(columns, axis=1)


def grain(pictures):
    """Differences over 1 to 5 pixels between two pixels of the lesion, in its deviations: (n, 5)."""
    rows = []
    for picture in pictures:
        grey = picture.image.astype(np.float64).mean(-1)
        core = ndimage.binary_erosion(picture.mask, iterations=2)
        row = []
        for step in range(1, 6):
            down, along = core[step:] & core[:-step], core[:, step:] & core[:, :-step]
            differences = (
                np.abs(grey[step:] - grey[:-step])[down],
                np.abs(grey[:, step:] - grey[:, :-step])[along],
            )
            row.append(np.concatenate(differences).mean() / grey[core].std())
        rows.append(row)
    return np.array(rows)


def held_out(values, label):
    """AUROC on the second half of a logistic regression fitted to the first."""
    half = len(label) // 2
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=500))
    model.fit(values[:half], label[:half])
    return roc_auc_score(label[half:], model.decision_function(values[half:]))


@pytest.mark.parametrize("modality", ph.MODALITIES)
def test_an_image_depends_on_its_names_alone(modality):
    config = dataclasses.replace(CONFIG, name=f"phantom/{modality}")
    small = load(config)
    large = load(dataclasses.replace(config, phantom_patients=60, phantom_images_per_patient=4))
    where = {text: (name, row) for name, data in large.items() for row, text in enumerate(data.ids.tolist())}
    for name, data in small.items():
        rows = np.arange(len(data))[::-3]  # backwards, and not all
        for row, image in zip(rows, data.images.read(rows), strict=True):
            other, position = where[str(data.ids[row])]
            assert other == name
            np.testing.assert_array_equal(image, large[other].images.read(np.array([position]))[0])
            assert data.labels[row] == large[other].labels[position]


@pytest.mark.parametrize(
    "change",
    [{"phantom_seed": 1}, {"phantom_difficulty": 0.2}, {"phantom_task": "shape"}, {"name": "phantom/mri"}],
)
def test_another_seed_task_or_modality_is_another_data_set(change):
    first = load(CONFIG)["train"].images.read(np.arange(12))
    second = load(dataclasses.replace(CONFIG, **change))["train"].images.read(np.arange(12))
    assert (first != second).mean() > 0.005


def test_the_scene_is_the_same_at_another_size():
    phantom = ph.Phantom("histology", "shape")
    small, large = (ph.render(phantom, 5, 1, 1, size) for size in (64, 128))
    halved = large.image.reshape(64, 2, 64, 2, 3).mean((1, 3)).ravel()
    assert np.corrcoef(small.image.ravel(), halved)[0, 1] > 0.9
    assert (small.mask != large.mask[::2, ::2]).mean() < 0.03


def test_splits_are_by_patient_stratified_and_imbalanced():
    config = dataclasses.replace(CONFIG, phantom_patients=200, phantom_images_per_patient=2, image_size=16)
    data = load(config)
    groups = {name: set(split.groups.tolist()) for name, split in data.items()}
    for one, other in itertools.combinations(groups, 2):
        assert not groups[one] & groups[other]
    assert {name: len(members) for name, members in groups.items()} == {
        "train": 120, "val": 30, "test": 50, "shifted": 50,
    }  # fmt: skip
    for split in data.values():
        assert len(split) == 2 * len(set(split.groups.tolist()))
        assert split.labels.mean() == pytest.approx(0.3, abs=0.03)
        for group in set(split.groups.tolist()):
            assert len(set(split.labels[split.groups == group].tolist())) == 1
    ids = np.concatenate([split.ids for split in data.values()])
    assert len(set(ids.tolist())) == len(ids)
    again = load(dataclasses.replace(config, split_seed=1))
    assert set(again["test"].groups.tolist()) != groups["test"]


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_the_positive_share_is_kept(share):
    assert ph.labels(ph.Phantom("mri", positive_share=share), 400).mean() == pytest.approx(share, abs=0.005)


def test_twenty_patients_fill_every_split_and_ten_are_refused():
    for seed in range(5):
        data = load(dataclasses.replace(CONFIG, phantom_patients=20, split_seed=seed, image_size=16))
        assert all(set(split.labels.tolist()) == {0, 1} for split in data.values())
    with pytest.raises(UserError, match="phantom_patients"):
        load(dataclasses.replace(CONFIG, phantom_patients=4))


@pytest.mark.parametrize("modality", ph.MODALITIES)
def test_the_picture_changes_inside_the_mask_and_nowhere_else(modality):
    config = dataclasses.replace(CONFIG, name=f"phantom/{modality}", image_size=64)
    data = load(config)["test"]
    rows = np.arange(0, len(data), 3)
    masks = ph.masks(config, data.ids[rows])
    with_lesion = data.images.read(rows).astype(int)
    healthy = ph.without_lesion(config, data.ids[rows]).astype(int)
    assert masks.shape == (len(rows), 64, 64) and masks.dtype == bool
    changed = np.abs(with_lesion - healthy).max(-1)
    for mask, change in zip(masks, changed, strict=True):
        assert 0.04 < mask.mean() < 0.35
        assert (change[mask] > 4).mean() > 0.7
        assert change[~ndimage.binary_dilation(mask, iterations=2)].max() == 0
        assert change[~mask].mean() < 0.1 * change[mask].mean()


@pytest.mark.parametrize("lobulation", [0.0, 0.5, 1.0])
def test_outlines_have_the_area_and_perimeter_asked_for(lobulation):
    rng = np.random.default_rng(3)
    for _ in range(10):
        radii = outline.curve(rng, lobulation, 1.6, 0.7)
        turns = np.linspace(0, 2 * np.pi, len(radii), endpoint=False)
        corners = np.stack([radii * np.cos(turns), radii * np.sin(turns)])
        following = np.roll(corners, -1, axis=1)
        area = 0.5 * np.sum(corners[0] * following[1] - corners[1] * following[0])  # shoelace
        perimeter = np.sum(np.hypot(*(following - corners)))
        assert area == pytest.approx(0.7, rel=0.01)
        assert perimeter**2 / (4 * np.pi * area) == pytest.approx(1.6, rel=0.03)


def test_a_band_field_has_its_frequency_and_unit_variance():
    rng = np.random.default_rng(0)
    values = np.stack([brushes.band_field(rng, 96, 8.0, 0.2, 3.0, 0.0) for _ in range(40)])
    assert values.std() == pytest.approx(1, abs=0.05)
    power = np.abs(np.fft.fft2(values)).mean(0) ** 2
    down, along = np.meshgrid(*[np.fft.fftfreq(96, 1 / 96)] * 2, indexing="ij")
    radius = np.hypot(down, along)
    assert (power * radius).sum() / power.sum() == pytest.approx(8, rel=0.1)
    assert (power * along**2).sum() > 3 * (power * down**2).sum()  # waves along x


@pytest.mark.parametrize("modality", ph.MODALITIES)
def test_local_statistics_tell_nothing_of_the_shape_task(modality):
    # 300 : 300, a standard error of 0.024
    phantom = ph.Phantom(modality, "shape", seed=11, difficulty=0.5, positive_share=0.5)
    pictures, label = sample(phantom, 600)
    values = statistics([picture.image for picture in pictures])
    scores = np.array([roc_auc_score(label, column) for column in values.T])
    assert np.abs(scores - 0.5).max() < 0.08, scores
    areas = [picture.mask.mean() for picture in pictures]
    assert abs(roc_auc_score(label, areas) - 0.5) < 0.08


@pytest.mark.parametrize("modality", ph.MODALITIES)
def test_the_grain_of_the_lesion_tells_the_texture_task_and_not_the_shape_task(modality):
    scores = {}
    for task in ph.TASKS:
        pictures, label = sample(ph.Phantom(modality, task, seed=11, positive_share=0.5), 320)
        scores[task] = held_out(grain(pictures), label)
    assert scores["texture"] > 0.85
    assert abs(scores["shape"] - 0.5) < 0.14  # three standard errors at 80 : 80


@pytest.mark.parametrize("modality", ph.MODALITIES)
def test_difficulty_makes_it_harder_down_to_chance(modality):
    scores = []
    for difficulty in (0.0, 0.5, 1.0):
        pictures, label = sample(ph.Phantom(modality, "texture", 5, difficulty, positive_share=0.5), 320)
        scores.append(held_out(statistics([picture.image for picture in pictures]), label))
    assert scores[0] > scores[1] > scores[2]
    assert abs(scores[2] - 0.5) < 0.14


@pytest.mark.parametrize("modality", ph.MODALITIES)
def test_images_of_a_patient_are_alike(modality):
    # the patient can be recognised: that is what makes a split by image leak
    data = load(
        dataclasses.replace(
            CONFIG, name=f"phantom/{modality}", phantom_task="shape", phantom_images_per_patient=2
        )
    )["train"]
    images = data.images.read(np.arange(len(data)))[:, ::4, ::4].astype(float)
    looks = np.concatenate([images.mean((1, 2)), images.std((1, 2))], axis=1)
    looks = (looks - looks.mean(0)) / looks.std(0)
    apart = np.linalg.norm(looks[:, None] - looks[None], axis=-1)
    own = apart[np.arange(0, len(data), 2), np.arange(1, len(data), 2)]
    assert np.median(own) < 0.6 * np.median(apart[np.triu_indices(len(data), 1)])


@pytest.mark.parametrize("modality", ph.MODALITIES)
def test_the_other_hospital_can_be_told_from_the_image(modality):
    phantom = ph.Phantom(modality)
    order = np.random.default_rng(0).permutation(160)
    views = [ph.render(phantom, int(k), 0, 0, 64, shifted=bool(k % 2)).image for k in order]
    values = np.concatenate([statistics(views), np.stack(views).mean((1, 2))], axis=1)
    assert held_out(values, order % 2) > 0.9


def test_the_other_hospital_blurs_bends_the_tones_and_keeps_grey_grey():
    streams = [[np.random.default_rng(seed) for seed in (4, 5)] for _ in range(2)]
    stripes = np.zeros((64, 64, 3), np.float32)
    stripes[:, ::2] = 1
    assert np.std(other_hospital(stripes, *streams[0])[:, 8:-8]) < 0.15 * np.std(stripes)
    tones = np.repeat(np.linspace(0.1, 0.9, 64, dtype=np.float32), 64).reshape(64, 64, 1).repeat(3, -1)
    bent = other_hospital(tones, *streams[1])
    np.testing.assert_array_equal(bent[..., 0], bent[..., 2])
    inner = bent[8:-8, 32, 0]
    slopes = np.diff(inner)
    assert slopes.min() > 0  # darker stays darker
    assert max(slopes[0], slopes[-1]) > 1.2 * min(slopes[0], slopes[-1])  # but not in proportion


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "phantom/xray"}, "xray"),
        ({"name": "phantom/mri", "phantom_task": "shapes"}, "shape"),
        ({"name": "phantom/mri", "phantom_difficulty": 1.5}, "difficulty"),
        ({"name": "phantom/mri", "phantom_patients": 100_000}, "cache_gb"),
    ],
)
def test_a_wrong_field_is_the_users_to_mend(change, message):
    with pytest.raises(UserError, match=message):
        ph.load(dataclasses.replace(CONFIG, image_size=64, **change))


def test_a_foreign_id_is_refused():
    with pytest.raises(UserError, match="no phantom image id"):
        ph.masks(CONFIG, ["patient7"])


MEANS = {  # grey level of each channel over eight patients at 32 px, and its deviation
    "radiograph": ([153.84] * 3, [64.58] * 3),
    "mri": ([70.55] * 3, [74.29] * 3),
    "histology": ([203.23, 149.5, 219.84], [38.2, 39.19, 21.25]),
    "dermoscopy": ([185.43, 142.02, 122.09], [47.7, 42.07, 39.71]),
    "endoscopy": ([151.42, 88.42, 79.64], [66.66, 42.96, 40.42]),
}


@pytest.mark.parametrize("modality", ph.MODALITIES)
def test_images_stay_what_published_figures_were_measured_on(modality):
    pictures, _ = sample(ph.Phantom(modality, "texture"), 8, size=32)
    images = np.stack([picture.image for picture in pictures]).astype(float)
    images = images if images.ndim == 4 else images[..., None]
    mean, deviation = MEANS[modality]
    np.testing.assert_allclose(images.mean((0, 1, 2)), mean, atol=0.01)
    np.testing.assert_allclose(images.std((0, 1, 2)), deviation, atol=0.01)
