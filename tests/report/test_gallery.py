"""Images in a page: only where a run left a gallery, as part of the file, said, and not too many."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from PIL import Image

from tests.report.test_page import page_of
from ttl_jax.errors import UserError
from ttl_jax.report import html


def add_gallery(directory):
    place = directory / "gallery"
    place.mkdir()
    entries = []
    for number, right in enumerate((False, True)):
        for kind in ("", "-map"):
            image = np.full((32, 32, 3), 90 * number + 20, np.uint8)
            Image.fromarray(image).save(place / f"{number:02d}{kind}.jpg")
        entries.append({
            "id": f"<b>{number}</b>", "group": "g", "true": "normal", "of": "pneumonia",
            "decided": "normal" if right else "pneumonia", "confidence": 0.987, "row": number, "place": 1,
            "right": right, "image": f"{number:02d}.jpg", "map": f"{number:02d}-map.jpg",
        })  # fmt: skip
    index = {"split": "test", "unit": "stage4/block2", "entries": entries}
    (place / "index.json").write_text(json.dumps(index))
    return directory


def said(page):
    return " ".join(text for _, text in page.all("p"))


def test_images_stand_in_the_page_itself_and_it_says_so(run, tmp_path):
    directory = add_gallery(run("one", dataset="folder"))
    page = page_of([directory], tmp_path)
    shown = page.all("img")
    names = ("00.jpg", "00-map.jpg", "01.jpg", "01-map.jpg")
    want = [base64.b64encode((directory / "gallery" / name).read_bytes()).decode() for name in names]
    assert [each["src"] for each, _ in shown] == [f"data:image/jpeg;base64,{text}" for text in want]
    assert all(each["alt"] for each, _ in shown)
    assert "holds images of patients" in said(page) and "at stage4/block2" in said(page)
    captions = [text for _, text in page.all("figcaption")]
    assert any(text.startswith("pneumonia at 0.987, truly normal") for text in captions)
    assert not page.all("b")


def test_generated_images_are_no_patients_and_runs_without_a_gallery_have_none(run, tmp_path):
    page = page_of([add_gallery(run("phantom", dataset="phantom/mri"))], tmp_path)
    assert len(page.all("img")) == 4 and "holds images of patients" not in said(page)
    assert "Generated images" in said(page)
    page = page_of([run("none", dataset="folder")], tmp_path)
    assert not page.all("img") and "images of patients" not in said(page)


def test_beyond_the_budget_galleries_are_left_out_and_that_is_said(run, tmp_path, monkeypatch):
    runs = [add_gallery(run(name, strategy=name, dataset="folder")) for name in ("full", "lp_ft")]
    size = sum(len(each["src"]) for each, _ in page_of(runs[:1], tmp_path).all("img"))
    monkeypatch.setattr(html, "MAX_IMAGE_BYTES", size)
    page = page_of(runs, tmp_path)
    assert len(page.all("img")) == 4 and "The gallery of this setting is left out" in said(page)


def test_a_gallery_that_cannot_be_read_is_the_users_to_remove(run, tmp_path):
    directory = add_gallery(run("one"))
    (directory / "gallery" / "01.jpg").unlink()
    with pytest.raises(UserError, match="remove that folder"):
        page_of([directory], tmp_path)


def test_a_picture_that_comes_twice_is_shown_once_and_its_copies_are_named(run, tmp_path):
    directory = add_gallery(run("twice", dataset="folder"))
    index = json.loads((directory / "gallery" / "index.json").read_text())
    index["entries"].append({**index["entries"][0], "id": "again", "confidence": 0.95})
    (directory / "gallery" / "index.json").write_text(json.dumps(index))
    page = page_of([directory], tmp_path)
    assert len(page.all("img")) == 4
    assert any("the same picture: again" in text for _, text in page.all("figcaption"))


@pytest.mark.parametrize("way", ["above", "absolute", "link", "link to a folder"])
def test_a_file_outside_the_gallery_is_not_read(run, tmp_path, way):
    directory = add_gallery(run("out", dataset="folder"))
    secret = tmp_path / "elsewhere" / "secret.jpg"
    secret.parent.mkdir()
    secret.write_bytes(b"secret")
    (directory / "gallery" / "link.jpg").symlink_to(secret)
    (directory / "gallery" / "folder").symlink_to(secret.parent)
    index = json.loads((directory / "gallery" / "index.json").read_text())
    names = {"above": "../../elsewhere/secret.jpg", "absolute": str(secret), "link": "link.jpg"}
    index["entries"][0]["image"] = names.get(way, "folder/secret.jpg")
    (directory / "gallery" / "index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="leads out of"):
        page_of([directory], tmp_path)
