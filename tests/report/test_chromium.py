"""Every kind of report page in Chromium, from disk, by axe-core (WCAG 2 A and AA): `make browser`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.extras
playwright = pytest.importorskip("playwright.sync_api", reason="make browser")
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
AXE = Path(os.environ.get("AXE", Path(__file__).parents[2] / "build/axe/package/axe.min.js"))
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]
SMALL = [
    "--config.model.name=cbr_tiny", "--config.model.weights=none", "--config.data.image_size=128",
    "--config.data.phantom_patients=24", "--config.total_epochs=2",
]  # fmt: skip
RUNS = {  # a page's kind -> the words that write it
    "quickstart": ["quickstart", *SMALL],
    "train": ["train", "--config=train:dataset=phantom/mri", *SMALL],
    "compare": [
        "compare", "--config=compare", *SMALL, "--config.compare.datasets=('phantom/mri',)",
        "--config.compare.strategies=('full', 'linear_probe')", "--config.compare.seeds=(0, 1, 2)",
        "--config.compare.lrs=(1e-3,)", "--config.compare.workers=1",
    ],
    "search": ["search", "--config=search:dataset=phantom/mri,kind=ttl", *SMALL, "--config.search.workers=1"],
}  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    if not Path(CHROMIUM).exists() or not AXE.exists():
        pytest.skip(f"there is no {CHROMIUM} or {AXE}")
    with playwright.sync_playwright() as begun:
        browser = begun.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module", params=RUNS)
def report(request, tmp_path_factory):
    """The page of a run of one kind."""
    folder = tmp_path_factory.mktemp(request.param)
    subprocess.run([sys.executable, "-m", "ttl_jax", *RUNS[request.param], f"--workdir={folder}"], check=True)
    return folder / "report.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1024, 1600])
def test_a_page_is_readable_by_all(browser, report, width, scheme):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    faults = []
    page.on("console", lambda line: line.type == "error" and faults.append(line.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda asked: asked.url.startswith("http") and faults.append(asked.url))
    page.goto(report.as_uri())
    page.add_script_tag(content=AXE.read_text())
    asked = {"runOnly": {"type": "tag", "values": TAGS}}
    violations = page.evaluate("asked => axe.run(document, asked).then(result => result.violations)", asked)
    assert [(each["id"], [node["html"][:200] for node in each["nodes"]]) for each in violations] == []
    assert faults == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert report.stat().st_size < 5_000_000
    context.close()
