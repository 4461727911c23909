"""The report's data card, from its template alone."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

import ttl_jax.report


def rendered(**told):
    folder = Path(ttl_jax.report.__file__).parent
    environment = Environment(loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined)
    row = {"examples": 1200, "groups": 300, "classes": {"no": 400, "yes": 800}}
    card = {"splits": {"train": row}, "labels": ["no", "yes"], "straddling": 0, **told}
    return environment.get_template("page_data.html").render(cards=[("breast", card)])


def test_images_that_were_left_out_are_counted_and_listed():
    page = rendered(skipped=["a/<b>.png is damaged", "t.csv, row 7: c.png does not exist"])
    assert "2 images that could not be read were left out" in page
    assert "<li>a/&lt;b&gt;.png is damaged</li>" in page and "row 7: c.png" in page
    assert "1 image that could not be read was left out" in rendered(skipped=["d.png is damaged"])


def test_nothing_is_said_where_all_were_read_or_an_older_run_did_not_tell():
    assert "left out" not in rendered(skipped=[]) and "left out" not in rendered()
    assert "1,200" in rendered()
