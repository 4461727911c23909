"""MIDOG's patches, cut from regions whose pixels tell their place."""

import json

import numpy as np
import pytest
from PIL import Image

from ttl_jax.data import DataConfig
from ttl_jax.data.images.decode import UnreadableImageError
from ttl_jax.data.prepared.prepare import prepare
from ttl_jax.data.sources.registry import read_listing
from ttl_jax.errors import UserError

HEIGHT, WIDTH = 100, 150


@pytest.fixture
def midog(tmp_path):
    """Three regions, whose red is the row and whose green is the column; the third has no cells."""
    region = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    region[..., 0], region[..., 1] = np.arange(HEIGHT)[:, None], np.arange(WIDTH)
    (tmp_path / "images").mkdir()
    for number in (1, 2, 151):
        region[..., 2] = number
        Image.fromarray(region).save(tmp_path / "images" / f"{number:03}.tiff")
    images = [
        {"id": number, "file_name": f"{number:03}.tiff", "width": WIDTH, "height": HEIGHT,
         "tumor_type": "human melanoma" if number == 1 else "canine lymphoma"}
        for number in (1, 2, 151)
    ]  # fmt: skip
    cells = [  # boxes are left, top, right, bottom
        {"id": 7, "image_id": 2, "category_id": 1, "bbox": [50, 20, 100, 70]},
        {"id": 8, "image_id": 1, "category_id": 2, "bbox": [-20.5, 60, 29.5, 110]},
        {"id": 9, "image_id": 2, "category_id": 2, "bbox": [60, 25, 110, 75]},
    ]
    categories = [{"id": 1, "name": "mitotic figure"}, {"id": 2, "name": "hard negative"}]
    (tmp_path / "databases").mkdir()
    content = {"images": images, "annotations": cells, "categories": categories}
    (tmp_path / "databases" / "MIDOG++.json").write_text(json.dumps(content))
    return tmp_path


def read(folder):
    return read_listing(DataConfig(name="midog", path=str(folder)))


def test_patches_lie_around_their_cells_and_inside_the_region(midog):
    found = read(midog)
    assert found.ids.tolist() == ["001/8", "002/7", "002/9"] and found.groups.tolist() == [
        "001",
        "002",
        "002",
    ]
    assert [found.class_names[label] for label in found.labels] == [
        "look-alike",
        "mitotic figure",
        "look-alike",
    ]
    assert found.columns["tumor_type"].tolist() == ["human melanoma"] + ["canine lymphoma"] * 2
    assert set(found.splits) == {""}
    # centres (row, column): (85, 4.5) would pass the left and the lower border; (45, 75); (50, 85)
    for patch, (top, left, number) in zip(found.images, [(36, 0, 1), (13, 43, 2), (18, 53, 2)], strict=True):
        pixels = np.asarray(patch.read())
        assert pixels.shape == (64, 64, 3) and pixels[0, 0].tolist() == [top, left, number]
        assert pixels[63, 63].tolist() == [top + 63, left + 63, number]


def test_the_owners_split_is_kept(midog):
    table = midog / "datasets_xvalidation.csv"
    table.write_text("Slide;Dataset;Tumor;Scanner\n1;train;a;b\n2;test;a;b\n")
    assert read(midog).splits.tolist() == ["train", "test", "test"]
    table.write_text("Slide;Dataset;Tumor;Scanner\n1;train;a;b\n")
    with pytest.raises(UserError, match="lacks region 002"):
        read(midog)


def test_prepared_patches_are_the_patches(midog, tmp_path):
    done = prepare(DataConfig(name="midog", path=str(midog)), tmp_path / "out", workers=1)
    assert done.images == 3
    again = read_listing(DataConfig(name="record", path=str(tmp_path / "out")))
    for one, other in zip(read(midog).images, again.images, strict=True):
        assert np.array_equal(np.asarray(one.read()), np.asarray(other.read()))
    assert again.columns["tumor_type"].tolist()[0] == "human melanoma"


def test_damaged_tables_and_regions(midog):
    found = read(midog)
    (midog / "images" / "001.tiff").unlink()
    with pytest.raises(UnreadableImageError, match="does not exist"):
        found.images[0].read()
    Image.new("RGB", (40, 200)).save(midog / "images" / "001.tiff")
    with pytest.raises(UnreadableImageError, match="smaller than a patch"):
        found.images[0].read()
    table = midog / "databases" / "MIDOG++.json"
    for text, message in (
        ("{", "cannot be read"),
        ("[]", "is not MIDOG's table"),
        ('{"images": [], "annotations": []}', "no annotations"),
        ('{"images": [], "annotations": [{"id": 1, "image_id": 3}]}', "is not MIDOG's table"),
    ):  # fmt: skip
        table.write_text(text)
        with pytest.raises(UserError, match=message):
            read(midog)
