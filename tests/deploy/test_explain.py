"""`explain`: what it writes and says, where its numbers come from, and that bad input is one sentence."""

import json

import numpy as np
import pytest
from PIL import Image

import ttl_jax
from ttl_jax.cli import main
from ttl_jax.data.images.decode import Geometry
from ttl_jax.deploy.explain import explain
from ttl_jax.deploy.pictures import read_mask
from ttl_jax.training.run import train


def run(capsys, *words):
    status = main(["ttl_jax", "explain", *map(str, words)])
    out, err = capsys.readouterr()
    return status, out, err


@pytest.fixture(scope="module")
def photos(tmp_path_factory, finished):
    """Images of the finished run's test split as files of another size, one of them broken; and masks."""
    _, sets = finished
    place = tmp_path_factory.mktemp("photos")
    (place / "masks").mkdir()
    (place / "images").mkdir()
    for number, image in enumerate(sets["test"].images.images[:9]):
        Image.fromarray(image).resize((48, 40)).save(place / "images" / f"x{number}.png")
        mask = np.zeros((40, 48), np.uint8)
        mask[:20, :24] = 255
        Image.fromarray(mask).save(place / "masks" / f"x{number}_mask.png")
    (place / "images" / "x9.png").write_bytes(b"no image")
    return place


@pytest.fixture(scope="module")
def written(photos, finished, tmp_path_factory):
    result, _ = finished
    out = tmp_path_factory.mktemp("out") / "explained"
    words = ["explain", result.workdir, photos / "images", f"--masks={photos / 'masks'}", f"--out={out}"]
    words += ["--method=grad_cam,eigen_cam,occlusion", "--checks=6", "--class=bright"]
    assert main(["ttl_jax", *map(str, words)]) == 0
    return out, json.loads((out / "explain.json").read_text())


def test_arrays_and_pictures_of_every_image(written, finished, photos):
    out, found = written
    loaded = ttl_jax.load(finished[0].workdir)
    assert [line["id"] for line in found["images"]] == [
        str(photos / "images" / f"x{n}.png") for n in range(9)
    ]
    assert [line["id"] for line in found["unreadable"]] == [str(photos / "images" / "x9.png")]
    files = [np.asarray(Image.open(line["id"])) for line in found["images"]]
    explained = explain(loaded, files, ("grad_cam", "occlusion"), of="bright")
    for row, line in enumerate(found["images"]):
        held = np.load(out / "run" / f"{line['file']}.npz")
        np.testing.assert_array_equal(held["image"], explained.images[row])
        np.testing.assert_allclose(held["probabilities"], explained.probabilities[row], atol=1e-6)
        for method, maps in explained.maps.items():
            np.testing.assert_allclose(held[method], maps[row], atol=1e-5 * np.abs(maps).max() + 1e-7)
        assert held["eigen_cam"].shape == held["grad_cam"].shape and str(held["class"]) == "bright"
        assert line["runs"]["run"]["class"] == "bright"
        assert held["mask"][:16, :16].all() and held["mask"].sum() == 256
        for name in ("", ".grad_cam", ".eigen_cam", ".occlusion"):
            assert Image.open(out / "run" / f"{line['file']}{name}.png").size == (256, 256)
    np.testing.assert_allclose(loaded.predict(files, calibrated=True), explained.probabilities, atol=1e-6)


def test_energy_in_the_mask_is_that_of_the_saved_map(written):
    out, found = written
    for line in found["images"]:
        held, said = np.load(out / "run" / f"{line['file']}.npz"), line["runs"]["run"]["inside"]["occlusion"]
        grid = np.maximum(held["occlusion"], 0)  # 8 x 8 on 32 x 32: PIL's bilinear enlarging is the same
        large = np.asarray(Image.fromarray(grid).resize((32, 32), Image.Resampling.BILINEAR))
        assert said["area"] == 1 / 4
        assert said["energy"] == pytest.approx(large[held["mask"]].sum() / large.sum(), abs=1e-3)


def test_the_checks_are_in_the_json_the_page_and_the_terminal(written, photos, finished, capsys, tmp_path):
    out, found = written
    checks = found["runs"]["run"]["checks"]
    for method in ("grad_cam", "eigen_cam", "occlusion"):
        assert checks[method]["images"] == 6 and checks[method]["randomised"][-1]["down_to"] == "stem"
        for name in ("deletion", "insertion"):
            curve = checks[method][name]["curve"]
            assert checks[method][name]["area"] == pytest.approx(np.trapezoid(curve, dx=1 / 16), abs=1e-6)
    assert checks["eigen_cam"]["randomised"][0]["rank_correlation"] == pytest.approx(1)  # it knows no class
    page = (out / "index.html").read_text()
    assert "it knows no class" in page and page.count("data:image/jpeg") == 9 * 4 and page.count("<svg") == 3
    assert "http" not in page.replace("http-equiv", "")
    assert Image.open(out / "figure.png").height > Image.open(out / "figure.png").width
    words = [finished[0].workdir, photos / "images", f"--out={tmp_path}", "--method=eigen_cam"]
    status, said, _ = run(capsys, *words)
    assert status == 0 and "WARNING run, eigen_cam: the map is the same with a random head" in said
    assert "random" in said and f"WARNING {photos / 'images' / 'x9.png'}" in said


def test_runs_side_by_side(finished, photos, make_config, make_sets, tmp_path, capsys):
    other = train(make_config(strategy="truncated(2)"), tmp_path / "other" / "run", make_sets())
    status, said, err = run(
        capsys,
        finished[0].workdir,
        other.workdir,
        photos / "images",
        f"--out={tmp_path / 'out'}",
        "--checks=0",
    )
    assert status == 0, err
    found = json.loads((tmp_path / "out" / "explain.json").read_text())
    (one, two), lines = found["runs"], found["images"]
    assert two == "other-run" and {*lines[0]["runs"]} == {one, two}
    assert found["runs"][one]["units"] != found["runs"][two]["units"]
    maps = [np.load(tmp_path / "out" / name / f"{lines[0]['file']}.npz")["grad_cam"] for name in (one, two)]
    assert not np.array_equal(*maps)
    width, height = Image.open(tmp_path / "out" / "figure.png").size
    assert width / 3 == pytest.approx(height / 9, rel=0.25)  # three columns, nine rows


def test_volumes(make_config, make_sets, tmp_path, capsys):
    sets = make_sets(shape=(4, 32, 32, 3))
    fields = {"model__name": "resnet18_3d", "strategy": "truncated(2)", "data__depth": 4}
    result = train(make_config(**fields), tmp_path / "run", sets)
    images = sets["test"].images.images[:2]
    np.savez(tmp_path / "volumes.npz", images=images)
    status, _, err = run(
        capsys, tmp_path / "run", tmp_path / "volumes.npz", f"--out={tmp_path / 'out'}", "--checks=2"
    )
    assert status == 0, err
    found = json.loads((tmp_path / "out" / "explain.json").read_text())
    held = np.load(tmp_path / "out" / "run" / f"{found['images'][0]['file']}.npz")
    assert held["grad_cam"].ndim == 3
    want = explain(ttl_jax.load(result.workdir), images).maps["grad_cam"][0]
    np.testing.assert_allclose(held["grad_cam"], want, atol=1e-5 * want.max() + 1e-7)
    assert Image.open(tmp_path / "out" / "run" / f"{found['images'][0]['file']}.grad_cam.png").size == (
        256,
        256,
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nowhere", "IMAGES"], "is not the folder of a finished run"),
        (["RUN"], "name images to explain"),
        (["RUN", "IMAGES", "--split=test"], "leave"),
        (["RUN", "IMAGES", "--method=gradcam"], "did you mean 'grad_cam'?"),
        (["RUN", "IMAGES", "--unit=stage9"], "has no unit 'stage9'"),
        (["RUN", "IMAGES", "--unit=9"], "has units 1 to 3"),
        (["RUN", "IMAGES", "--unit=stem", "--method=occlusion"], "look at the image alone"),
        (["RUN", "IMAGES", "--class=brigth"], "did you mean 'bright'?"),
        (["RUN", "IMAGES", "--class=2"], "has no class '2'"),
        (["RUN", "IMAGES", "--checks=-1"], "must be 0 or more"),
        (["RUN", "IMAGES", "--masks=nowhere"], "no folder of masks"),
        (["RUN", "IMAGES", "--masks=EMPTY"], "is called as one of the images"),
        (["RUN", "BROKEN"], "there is no image that can be read"),
        (["RUN", "RUN", "IMAGES"], "named twice"),
    ],
)
def test_bad_input(capsys, tmp_path, monkeypatch, finished, photos, words, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    known = {
        "RUN": finished[0].workdir,
        "IMAGES": photos / "images",
        "BROKEN": photos / "images" / "x9.png",
        "--masks=EMPTY": "--masks=empty",
    }
    status, _, err = run(capsys, *(known.get(word, word) for word in words), "--out=out")
    assert status == 2 and sentence in err and len(err.strip().splitlines()) == 1, err


def test_a_mask_of_other_proportions_is_refused(capsys, tmp_path, finished, photos):
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.full((48, 40), 255, np.uint8)).save(tmp_path / "masks" / "x0.png")
    words = finished[0].workdir, photos / "images" / "x0.png", f"--masks={tmp_path / 'masks'}"
    status, _, err = run(capsys, *words, f"--out={tmp_path / 'out'}")
    assert status == 2 and "has 40 x 48 pixels" in err


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
def test_a_mask_goes_the_way_of_its_image(tmp_path, resize):
    image = np.zeros((60, 90), np.uint8)
    image[10:40, 30:70] = 1  # a label image: 0 and 1
    Image.fromarray(image).save(tmp_path / "mask.png")
    geometry = Geometry(30, resize, pad_value=255)
    found = read_mask(tmp_path / "mask.png", geometry)
    scale, (top, left) = {
        "squash": ((2, 3), (0, 0)), "crop": ((2, 2), (0, -7.5)), "pad": ((3, 3), (5, 0)),
    }[resize]  # fmt: skip
    want = np.zeros((30, 30), bool)
    rows = [round(top + each / scale[0]) for each in (10, 40)]
    columns = [max(0, min(30, round(left + each / scale[1]))) for each in (30, 70)]
    want[rows[0] : rows[1], columns[0] : columns[1]] = True
    assert (found ^ want).sum() <= 2 * (np.diff(rows) + np.diff(columns))  # a pixel along the border


def test_a_method_of_ones_own(tmp_path, finished, photos, capsys):
    (tmp_path / "my_maps.py").write_text(
        "import jax.numpy as jnp\n\n\n"
        "def brightness(network, variables, images, classes):\n    return images.mean(axis=-1)\n"
    )
    words = finished[0].workdir, photos / "images" / "x0.png", f"--out={tmp_path / 'out'}", "--checks=0"
    status, _, err = run(capsys, *words, f"--method={tmp_path / 'my_maps.py'}:brightness")
    assert status == 0, err
    held = np.load(tmp_path / "out" / "run" / "0000_x0.npz")
    normalise = ttl_jax.load(finished[0].workdir).signature.normalisation.normalise
    np.testing.assert_allclose(
        held["brightness"], np.asarray(normalise(held["image"][None]))[0].mean(-1), rtol=1e-4, atol=1e-5
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A cut network that has really learned the phantom's easy texture, and the runs's test split."""
    return None
