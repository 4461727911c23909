"""A TFDS data set made here, with TFDS itself, as ArrayRecord and without TensorFlow."""

import io
import sys

import numpy as np
import pytest
from PIL import Image

from ttl_jax import data
from ttl_jax.data import DataConfig
from ttl_jax.data.sources.registry import read_listing
from ttl_jax.errors import UserError

tfds = pytest.importorskip("tensorflow_datasets")


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)


class TinyScans(tfds.core.GeneratorBasedBuilder):
    """Twenty patients of two images; train and test."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(None, None, 3)),
                "label": tfds.features.ClassLabel(names=["healthy", "ill"]),
                "effusion": np.int64,
                "oedema": np.int64,
                "patient": tfds.features.Text(),
            }
        )
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, manager):
        return {
            "train": self._generate_examples(range(30)),
            "test": self._generate_examples(range(30, 40)),
            "extra": self._generate_examples(range(2)),
        }

    def _generate_examples(self, numbers):
        for number in numbers:
            buffer = io.BytesIO()
            Image.fromarray(picture(number)).save(buffer, "PNG")
            yield (
                number,
                {
                    "image": io.BytesIO(buffer.getvalue()),
                    "label": number // 2 % 2,
                    "effusion": (number % 3 == 0) - (number == 4) * 1,
                    "oedema": int(number % 5 == 0),
                    "patient": f"p{number // 2}",
                },
            )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    TinyScans(data_dir=folder, file_format="array_record").download_and_prepare()
    return str(folder)


def test_a_data_set_by_name(prepared, capsys):
    config = DataConfig(name="tfds/tiny_scans", path=prepared, group="patient", image_size=9)
    sets = data.load(config)
    assert "left out the splits extra" in capsys.readouterr().out
    assert len(sets["test"]) == 10 and len(sets["train"]) + len(sets["val"]) == 30
    assert sets["train"].class_names == ("healthy", "ill") and sets["train"].task == "multiclass"
    assert len(set(sets["train"].groups) & set(sets["val"].groups)) == 0
    known = {picture(number).tobytes(): number for number in range(40)}
    for split in sets.values():
        for place in range(len(split)):
            number = known[split.images.read(np.array([place]))[0].tobytes()]
            assert split.labels[place] == number // 2 % 2 and split.groups[place] == f"p{number // 2}"
    assert "tensorflow" not in sys.modules


def test_several_labels_and_unknown(prepared):
    config = DataConfig(name="tfds/tiny_scans", path=prepared, label="effusion,oedema", image_size=9)
    listing = read_listing(config)
    assert listing.task == "multilabel" and listing.class_names == ("effusion", "oedema")
    assert np.isnan(listing.labels).sum() == 1  # number 4: -1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "tfds/tiny_scan"}, "TFDS has no data set 'tiny_scan'"),
        ({"label": "lable"}, "no feature 'lable' for data.label.*'label'"),
        ({"group": "patients"}, "data.group.*'patient'"),
        ({"label": "patient"}, "are no numbers"),
    ],
)
def test_mistakes_are_named(prepared, fields, message):
    given = {"name": "tfds/tiny_scans", "path": prepared, "image_size": 9} | fields
    with pytest.raises(UserError, match=message):
        read_listing(DataConfig(**given))
