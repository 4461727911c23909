"""The pages of `serve` and of a web export in Chromium, and `serve` against its OpenAPI: `make browser`."""

import io
import os
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ttl_jax
from ttl_jax.data.images.decode import Encoded, Geometry, decode
from ttl_jax.deploy.export import web

pytestmark = pytest.mark.extras
playwright = pytest.importorskip("playwright.sync_api", reason="make browser")
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
RUNTIME = os.environ.get("ONNXRUNTIME_WEB")  # its unpacked npm package; else what `make web` wrote
PLAIN = os.environ | {"PYTHONUNBUFFERED": "1"}


@pytest.fixture(scope="module")
def browser():
    if not Path(CHROMIUM).exists():
        pytest.skip(f"there is no {CHROMIUM}")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """A page that counts as broken where it asks another address, or its console has an error."""
    context = browser.new_context()
    page = context.new_page()
    faults, own = [], re.compile(r"(http://127\.0\.0\.1:\d+/|data:|blob:)")
    page.on("console", lambda line: line.type == "error" and faults.append(line.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda asked: own.match(asked.url) or faults.append(asked.url))
    yield page
    context.close()
    assert [
        fault for fault in faults if "422" not in fault
    ] == []  # a refused file is one, in Chromium's eyes


def started(words, ready, **options):
    """A server as its users start it, and its address."""
    process = subprocess.Popen(
        [sys.executable, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=PLAIN,
        **options,
    )
    for line in process.stdout:
        if found := re.search(ready, line):
            return process, found
    raise AssertionError(f"{words} ended with {process.wait()}")


@pytest.fixture(scope="module")
def address(finished):
    words = ["-m", "ttl_jax", "serve", str(finished[0].workdir), "--port=0", "--megabytes=1"]
    process, found = started(words, r"http://127\.0\.0\.1:\d+/")
    yield found[0]
    process.terminate()
    assert process.wait(20) in (0, -15)


@pytest.fixture
def png(tmp_path):
    pixels = np.random.default_rng(3).integers(0, 220, (60, 45, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "<b>case 1.png")
    return tmp_path / "<b>case 1.png"


def shown(page):
    """The probabilities of the table on a page."""
    rows = page.locator("article tr").all()
    return {row.locator("th").inner_text(): float(row.locator("td").last.inner_text()) for row in rows}


def test_an_upload_and_its_result(page, address, finished, png):
    page.goto(address)
    page.set_input_files("#file", png)
    page.wait_for_selector("article")
    run = ttl_jax.load(finished[0].workdir)
    (wanted,) = run.predict([str(png)], calibrated=True)
    assert shown(page) == pytest.approx(dict(zip(run.class_names, wanted, strict=True)), abs=6e-4)
    assert page.locator("article h2").inner_text().startswith("<b>case 1.png: ")  # text, not markup
    pictures = page.locator("article img")
    assert pictures.count() == 2
    assert all(each.evaluate("each => each.naturalWidth") >= 256 for each in pictures.all())
    assert page.locator("article li").count() == 10 and page.locator("text=cut at 3").count()
    assert "not a medical device" in page.locator(".notice").inner_text()


def test_a_broken_file_is_a_sentence_and_the_page_goes_on(page, address, png, tmp_path):
    page.goto(address)
    broken = tmp_path / "broken.png"
    broken.write_bytes(png.read_bytes()[:300])
    page.set_input_files("#file", broken)
    page.wait_for_selector("#status.error")
    assert page.locator("#status").inner_text().startswith("broken.png: the file cannot be decoded")
    large = tmp_path / "large.png"
    large.write_bytes(b"x" * 1_000_001)
    page.set_input_files("#file", large)
    page.wait_for_selector("#status:has-text('larger than the 1,000,000 bytes')")
    page.set_input_files("#file", png)
    page.wait_for_selector("article")
    assert page.locator("#status").inner_text() == ""


def test_the_keyboard_is_enough(page, address, png):
    page.on("filechooser", lambda _: None)  # caught from now on: asked for at the key, it may be late
    page.goto(address)
    page.wait_for_function(
        "document.title.includes('ttl_jax') && document.querySelectorAll('#about dd').length > 2"
    )
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"
    outline = "getComputedStyle(document.getElementById('drop')).outlineStyle"
    assert page.evaluate(outline) == "solid"  # where the keyboard is can be seen
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(png)
    page.wait_for_selector("article")
    assert page.evaluate("document.activeElement.tagName") == "H2"  # the result is read out
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
    page.keyboard.press("Enter")
    assert page.locator("article li").first.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_screens_and_contrast(page, address, png, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(address)
    page.set_input_files("#file", png)
    page.wait_for_selector("article")
    page.locator("article summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    contrasts = page.evaluate("""() => {
      const light = (text) => text.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255)
        .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
      const back = (node) => {
        for (let at = node; at; at = at.parentElement) {
          const colour = getComputedStyle(at).backgroundColor;
          if (!colour.endsWith(", 0)")) return light(colour);
        }
        return 1;
      };
      return [...document.querySelectorAll("body *")].filter((node) => node.checkVisibility()
        && [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim())).map((node) => {
        const [a, b] = [light(getComputedStyle(node).color), back(node)];
        const name = node.tagName + " " + node.textContent.slice(0, 30);
        return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), name];
      });
    }""")
    assert len(contrasts) > 20
    assert [each for each in contrasts if each[0] < 4.5] == []  # WCAG 2.2, 1.4.3


def test_a_token_is_asked_for(browser, finished, png):
    words = ["-m", "ttl_jax", "serve", str(finished[0].workdir), "--port=0", "--token=0123456789abcdef"]
    process, found = started(words, r"http://127\.0\.0\.1:\d+/")
    try:
        page = browser.new_page()
        page.goto(found[0])
        page.wait_for_selector("#access:not([hidden])")
        assert "token" in page.locator("#status").inner_text()
        page.fill("#token", "0123456789abcdef")
        page.keyboard.press("Enter")
        page.wait_for_selector("#access", state="hidden")
        page.set_input_files("#file", png)
        page.wait_for_selector("article")
    finally:
        process.terminate()
        process.wait(20)


def test_the_server_keeps_to_its_description(address):
    pytest.importorskip("schemathesis", reason="make browser")
    command = [
        Path(sys.executable).with_name("st"), "run", f"{address}openapi.json", "--checks=all",
        "--max-examples=40", "--seed=1", "--exclude-checks=positive_data_acceptance", "--no-color",
    ]  # fmt: skip  # a drawn string is no image: it is refused, and rightly
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:]


@pytest.fixture(scope="module")
def files(finished, tmp_path_factory):
    """A web export, served by Python's own file server."""
    run = ttl_jax.load(finished[0].workdir)
    try:
        web.find_runtime(run.signature, RUNTIME)
    except ttl_jax.errors.UserError as error:
        pytest.skip(str(error))
    out = tmp_path_factory.mktemp("web")
    run.export("web", out=out, onnxruntime_web=RUNTIME)
    words = ["-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(out)]
    process, found = started(words, r"http://127\.0\.0\.1:\d+/")
    yield run, found[0]
    process.terminate()
    process.wait(20)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def interlaced(pixels):
    """PNG by Adam7, which Pillow reads and does not write."""
    steps = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    parts = [pixels[top::down, left::across] for left, top, across, down in steps]
    raw = b"".join(b"\0" + row.tobytes() for part in parts if part.size for row in part)
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8, 2, 0, 0, 1)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def pictures():
    """PNG of every kind that there is, and sizes that are scaled in every way."""
    draw = np.random.default_rng(0)
    rgb = draw.integers(0, 256, (61, 83, 3)).astype(np.uint8)
    gray = draw.integers(0, 256, (50, 37)).astype(np.uint8)
    alpha = Image.fromarray(np.dstack([rgb, draw.integers(0, 256, rgb.shape[:2])]).astype(np.uint8))
    few = Image.fromarray(rgb).quantize(9)
    images = {
        "rgb": (rgb, {}), "gray": (gray, {}), "bits": (gray > 100, {}), "rgba": (alpha, {}),
        "la": (alpha.convert("LA"), {}), "sixteen": (draw.integers(90, 4095, (45, 70)).astype(np.uint16), {}),
        "palette": (few, {"bits": 4}), "clear palette": (few, {"transparency": bytes(range(0, 252, 28))}),
        "clear gray": (gray, {"transparency": int(gray[0, 0])}), "small": (rgb[:5, :7], {}),
        "tall": (draw.integers(0, 256, (200, 30, 3)).astype(np.uint8), {}), "same": (rgb[:32, :32], {}),
    }  # fmt: skip
    yield "interlaced", interlaced(rgb)
    for name, (image, options) in images.items():
        file = io.BytesIO()
        (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, "PNG", **options)
        yield name, file.getvalue()


def test_the_browser_prepares_png_as_python_does_bit_for_bit(page, files):
    page.goto(files[1])
    ask = """async ([bytes, geometry, tall]) => {
      const { preprocess } = await import("./preprocess.js");
      return [...await preprocess(new Uint8Array(bytes), geometry, tall)];
    }"""
    for name, content in pictures():
        for resize in ("squash", "crop", "pad"):
            geometry = {"size": 32, "resize": resize, "pad_value": 77}
            found = page.evaluate(ask, [list(content), geometry, web.tall_first()])
            wanted = decode(Encoded(content), Geometry(**geometry))
            assert np.array_equal(np.array(found).reshape(wanted.shape), wanted), (name, resize)


def test_the_browser_predicts_what_python_does(page, files, tmp_path):
    run, address = files
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    ask = """async (bytes) => {
      const { predict } = await import("./page.js");
      return (await predict(new Uint8Array(bytes))).probabilities;
    }"""
    for name, content in pictures():
        path = tmp_path / f"{name}.png"
        path.write_bytes(content)
        found, (wanted,) = page.evaluate(ask, list(content)), run.predict([str(path)], calibrated=True)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4, err_msg=name)
    photo = tmp_path / "photo.jpg"
    ramp = np.add.outer(np.arange(90), np.arange(120))[..., None] + np.array([0, 20, 40])
    Image.fromarray(ramp.astype(np.uint8)).save(photo, quality=85)
    found, (wanted,) = (
        page.evaluate(ask, list(photo.read_bytes())),
        run.predict([str(photo)], calibrated=True),
    )
    np.testing.assert_allclose(found, wanted, rtol=0, atol=5e-3)  # another decoder


def test_the_page_of_a_web_export(page, files, png, tmp_path):
    run, address = files
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    page.set_input_files("#file", png)
    page.wait_for_selector("article")
    (wanted,) = run.predict([str(png)], calibrated=True)
    assert shown(page) == pytest.approx(dict(zip(run.class_names, wanted, strict=True)), abs=6e-4)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    (tmp_path / "x.png").write_bytes(png.read_bytes()[:300])
    page.set_input_files("#file", tmp_path / "x.png")
    page.wait_for_selector("#status.error")
    assert page.locator("#status").inner_text() == "x.png: is a damaged PNG: it ends early"
