"""The tables of docs/results say what the files beside them hold."""

import csv
import importlib.util
import json
import sys
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "docs" / "results"


def test_the_table_of_strategies_is_its_files():
    page = (RESULTS / "comparison_study.md").read_text()
    with (RESULTS / "comparison_study.csv").open() as file:
        rows = list(csv.DictReader(file))
    sets = {row["dataset"] for row in rows}
    lines = [line for line in page.splitlines() if line.split(" ")[0] == "|" and line.split(" ")[1] in sets]
    assert len(lines) == len(rows) == 50 and len(sets) == 5
    for line, row in zip(lines, rows, strict=True):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[0] == row["dataset"] and cells[1] == row["strategy"]
        score, low, high = (float(row[name]) for name in ("auroc", "low", "high"))
        assert cells[2] == f"{score:.3f} [{low:.3f}, {high:.3f}]"
        if row["difference"]:
            gain = f"{100 * float(row['difference']):+.1f}".replace("-", "−")
            assert cells[3].split()[0].replace("−0.0", "+0.0") == gain.replace("−0.0", "+0.0")


def test_the_pooled_table_and_what_is_said_of_it_are_its_files():
    page = (RESULTS / "comparison_study.md").read_text()
    prose = " ".join(page.split("Pooled over")[0].split())
    with (RESULTS / "comparison_study_pooled.csv").open() as file:
        rows = {
            row.pop("strategy"): {name: float(text) for name, text in row.items()}
            for row in csv.DictReader(file)
        }
    assert len(rows) == 9 and all(row["sets"] == 5 and row["p_holm"] > 0.05 for row in rows.values())

    def points(row, *names):
        return [f"{100 * row[name]:+.1f}" for name in names]

    for strategy, row in rows.items():
        gain, low, high, least, most = points(
            row, "estimate", "low", "high", "predicted_low", "predicted_high"
        )
        line = f"| {strategy} | {gain} [{low}, {high}] | {row['p_holm']:.2f} | [{least}, {most}] |"
        assert line.replace("-", "−") in page
    for strategy in ("lp_ft", "auto_rgn", "truncated(stage='stage5')"):
        gain, low, high = points(rows[strategy], "estimate", "low", "high")
        assert f"{gain} [{low}, {high}]" in prose.replace("points of AUROC ", "")
    assert (
        "from {} to {}".format(*points(rows["truncated(stage='stage5')"], "predicted_low", "predicted_high"))
        in prose
    )


def test_what_the_page_says_of_the_strategies_is_so():
    with (RESULTS / "comparison_study.csv").open() as file:
        rows = list(csv.DictReader(file))
    gains = {}
    for row in rows:
        if row["difference"]:
            gains.setdefault(row["strategy"], []).append(100 * float(row["difference"]))
            assert float(row["p"]) > 0.05  # no strategy beats full surely
    assert all(gain < 0 for gain in gains["lp_ft"])  # below full on all five sets
    assert sorted(round(gain, 1) for gain in gains["auto_rgn"])[-2:] == [0.5, 0.7]
    assert max(gains["auto_rgn"][number] for number in (0, 1, 3)) < 0
    for name in {row["dataset"] for row in rows}:
        here = [(float(row["auroc"]), row["strategy"]) for row in rows if row["dataset"] == name]
        assert max(here)[1] == "truncated(stage='stage5')"  # the highest mean of the ten
        assert max(here)[0] - min(here)[0] <= 0.117


def benchmark_of(name):
    spec = importlib.util.spec_from_file_location(name, RESULTS.parents[1] / "benchmarks" / f"{name}.py")
    benchmark = sys.modules[name] = importlib.util.module_from_spec(spec)  # where dataclasses look for it
    spec.loader.exec_module(benchmark)
    return benchmark


def test_how_sure_we_are_is_its_file():
    page, benchmark = (RESULTS.parent / "how_sure.md").read_text(), benchmark_of("how_sure")
    with (RESULTS / "how_sure.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 45 and benchmark.table(rows) in page and benchmark.by_set(rows) in page
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if "|" in line]
    found = {(cells[0], cells[1]): cells[2:] for cells in lines if len(cells) == 5 and "(" in cells[2]}
    words = " ".join(page.split())
    for sentence, of, place in (
        ("with ten seeds a difference of {} points", ("60", "10"), 0),
        ("and in {} of 45 nothing can be told", ("60", "10"), 2),
        ("(2,000 in all): {} points with ten seeds", ("300", "10"), 0),
        ("points with ten seeds, {} with five. - **3,000", ("300", "5"), 0),
        ("**3,000 test patients**: {} points with ten seeds", ("3,000", "10"), 0),
        ("points with ten seeds, {} with five. From here", ("3,000", "5"), 0),
        ("with 3,000 patients they find {} points", ("3,000", "3"), 0),
        ("need {} points with 300 patients and five seeds", ("300", "5"), 1),
    ):
        assert sentence.format(found[of][place].split()[0]) in words
    shares = [cells for cells in lines if len(cells) == 5 and cells[3].replace(".", "").isdigit()]
    worst = max(abs(float(foretold) - float(simulated)) for *_, foretold, simulated in shares)
    assert len(shares) == 12 and f"The largest difference is {worst:.2f}." in words


def test_what_is_said_of_batch_norm_is_its_file():
    page, benchmark = (RESULTS.parent / "batch_norm.md").read_text(), benchmark_of("batch_norm")
    rows = [json.loads(line) for line in (RESULTS / "batch_norm.jsonl").read_text().splitlines()]
    assert benchmark.table(rows) in page and benchmark.conclusions(rows) in page
    assert f"\n{len(rows) // len(benchmark.ESTIMATES)} trainings of {len(list(benchmark.cells()))} " in page


def test_the_tables_of_deployment_and_exports_are_their_files():
    for name, page in (("deployment", "results/deployment"), ("export", "export")):
        benchmark = benchmark_of(name)
        lines = (RESULTS / f"{name}.jsonl").read_text().splitlines()
        text = (RESULTS.parent / f"{page}.md").read_text()
        parts = {}
        for row in map(json.loads, lines):
            parts.setdefault(row["part"] if name == "export" else "", []).append(row)
        assert parts
        for rows in parts.values():
            assert benchmark.table(rows) in text


def test_the_table_of_mutants_is_its_file():
    page, benchmark = (RESULTS.parent / "reliability.md").read_text(), benchmark_of("mutants")
    rows = [json.loads(line) for line in (RESULTS / "mutants.jsonl").read_text().splitlines()]
    assert len(rows) == 300 and benchmark.table(rows) in page
    killed = [row["outcome"] in ("killed", "timeout") for row in rows]
    assert sum(killed) >= 0.92 * len(rows)
    assert all("reason" in row for row, known in zip(rows, killed, strict=True) if not known)


def test_the_anchors_of_medmnist_are_their_file():
    page = (RESULTS / "medmnist.md").read_text()
    published = {"pneumoniamnist": ("0.944", "0.854"), "breastmnist": ("0.901", "0.863")}
    with (RESULTS / "medmnist.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    for row in rows:
        cells = [row["dataset"], row["strategy"]]
        for name, low, high, known in zip(
            ("auroc", "accuracy"), ("low", "accuracy_low"), ("high", "accuracy_high"),
            published[row["dataset"]], strict=True,
        ):  # fmt: skip
            score, least, most = (float(row[field]) for field in (name, low, high))
            cells += [f"{score:.3f} [{least:.3f}, {most:.3f}]", known]
        assert f"| {' | '.join(cells)} |" in page
        if row["difference"]:
            gain, least, most = (
                f"{100 * float(row[name]):+.1f}" for name in ("difference", "d_low", "d_high")
            )
            assert f"{gain} {'points ' * (gain[0] == '+')}[{least}, {most}]".replace("-", "−") in page
