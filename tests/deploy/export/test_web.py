"""The folder of a web export; test_browser.py shows that it predicts as Python does."""

import re
from dataclasses import replace

import numpy as np
import pytest

import ttl_jax
from ttl_jax import cli
from ttl_jax.deploy.export import onnx, web
from ttl_jax.errors import UserError
from ttl_jax.training.records import signature

pytest.importorskip("onnxruntime")


@pytest.fixture
def package(tmp_path):
    """What stands for the npm package: its two files."""
    folder = tmp_path / "package" / "dist"
    folder.mkdir(parents=True)
    for name in web.RUNTIME:
        (folder / name).write_text(name)
    return folder.parent


def test_a_folder_with_all_that_a_browser_needs(finished, package, tmp_path, capsys):
    run, out = ttl_jax.load(finished[0].workdir), tmp_path / "out"
    words = (str(run.folder), "--format=web", f"--out={out}", f"--onnxruntime_web={package}")
    assert cli.main(["ttl_jax", "export", *words]) == 0
    assert f"python -m http.server --bind 127.0.0.1 --directory {out}" in capsys.readouterr().out
    names = {"index.html", "style.css", "model.onnx", "signature.json", "README.md", "CHECKLIST.md"}
    assert {path.name for path in out.iterdir()} == names | {*web.RUNTIME, *web.OWN}
    images = np.random.default_rng(0).integers(0, 256, (3, *run.signature.geometry.shape)).astype(np.uint8)
    wanted = run.signature.probabilities(run.logits(images), calibrated=True)
    np.testing.assert_allclose(onnx.open_file(out / "model.onnx")(images), wanted, atol=1e-4)
    assert signature.read(out) == run.signature


def test_the_page_names_no_other_host_and_its_files_are_there(finished, package, tmp_path):
    ttl_jax.load(finished[0].workdir).export(
        "web", out=tmp_path / "out", onnxruntime_web=str(package / "dist")
    )
    page = (tmp_path / "out" / "index.html").read_text()
    own = [page, *((tmp_path / "out" / name).read_text() for name in (*web.OWN, "style.css"))]
    assert not any(re.search(r"https?://|innerHTML", text) for text in own)
    named = re.findall(r"(?:src|href)=\"([^\":]+)\"", page) + re.findall(r"from \"\./([^\"]+)\"", own[1])
    assert set(named) == {"style.css", "page.js", "ort.wasm.bundle.min.mjs", "preprocess.js"}
    assert all((tmp_path / "out" / name).is_file() for name in named)
    assert f'data-tall-first="{str(web.tall_first()).lower()}"' in page and "not a medical device" in page


def test_what_it_lacks_is_one_sentence(finished, tmp_path, monkeypatch):
    known = ttl_jax.load(finished[0].workdir).signature
    with pytest.raises(UserError, match="--onnxruntime_web=.* holds no"):
        web.find_runtime(known, str(tmp_path))
    monkeypatch.setattr(web, "VENDOR", tmp_path)
    with pytest.raises(UserError, match="`npm pack onnxruntime-web`, unpack it"):
        web.find_runtime(known)
    with pytest.raises(UserError, match="takes volumes"):
        web.find_runtime(replace(known, geometry=replace(known.geometry, depth=4)))
