"""The report: one file that loads nothing, says what ``curves.json`` says, and shows it without a script, too."""

import base64
import hashlib
import json
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from PIL import Image

from htsr.errors import InputError
from htsr.report import html, plots
from htsr.report.html import Picture, render, write_report

VOID = {"meta", "link", "input", "img", "br", "path"}
EVIL = "</script><img src=x onerror=alert(1)><!-- \" ' & $title"


class Page(HTMLParser):
    """A page as its elements, text, scripts and tables; what is not well nested is an error."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.elements, self.open, self.scripts, self.styles, self.text = [], [], {}, "", ""
        self.tables: dict[str, list[list[str]]] = {}
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "table":
            self.tables[self._place()] = []
        elif tag == "tr" and self.tables:
            self._table().append([])
        elif tag in ("td", "th"):
            self._table()[-1].append("")
        if tag not in VOID:
            self.open.append((tag, dict(attrs)))

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        tag, attrs = self.open[-1] if self.open else ("", {})
        if tag == "script":
            self.scripts[attrs.get("id", "")] = data
        elif tag == "style":
            self.styles += data
        else:
            self.text += data
            if any(name in ("td", "th") for name, _ in self.open):
                self._table()[-1][-1] += data if tag != "span" else f" {data}"

    def attributes(self, name: str) -> list[str]:
        return [attrs[name] for _, attrs in self.elements if name in attrs]

    def ids(self) -> set[str]:
        return set(self.attributes("id"))

    def _place(self) -> str:
        section = next(attrs for tag, attrs in reversed(self.open) if tag == "section")
        return section.get("data-metric") or section["id"]

    def _table(self):
        return list(self.tables.values())[-1]


def curve(values, spread=0.5, horizon_mean=None):
    mean = [None if value is None else float(value) for value in values]
    known = [value for value in mean if value is not None]
    middle = (sum(known) / len(known) if known else None) if horizon_mean is None else horizon_mean
    ends = {
        end: [None if value is None or spread is None else value + sign * spread for value in mean]
        for end, sign in (("low", -1), ("high", 1))
    }
    low, high = (None, None) if spread is None or middle is None else (middle - spread, middle + spread)
    return {"mean": mean, **ends, "horizon_mean": {"mean": middle, "low": low, "high": high}}


def small(values):
    return curve(values, spread=0.001)


def content(**provenance):
    """Of a model that is better than one baseline, worse than another, and not told apart from the third."""
    return {
        "provenance": {"context": 5, "horizon": 3, "num_examples": 7, "num_samples": 1, **provenance},
        "metrics": {
            "mse": {"label": "MSE per pixel", "better": "lower", "form": "#.4g"},
            "psnr": {"label": "PSNR (dB)", "better": "higher", "form": ".2f"},
            "bias@0.5": {"label": "frequency bias", "better": None, "form": ".3f"},
        },
        "curves": {
            "model": {"psnr": curve([21.125, 20, 19]), "mse": small([0.01, 0.02, 0.03]), "bias@0.5": curve([1] * 3)},
            "copy_last": {"psnr": curve([17.5, 16, 15]), "mse": small([0.04] * 3), "bias@0.5": curve([2] * 3)},
            "mean_frame": {"psnr": curve([20, 20, 20]), "mse": small([0.02] * 3)},
            "black": {"psnr": curve([22, 23, 24]), "mse": small([0.001] * 3)},
        },
        "differences": {
            "copy_last": {"psnr": curve([3.6, 4, 4]), "mse": small([-0.03] * 3), "bias@0.5": curve([-1] * 3)},
            "mean_frame": {"psnr": curve([0.1, 0, -0.1]), "mse": small([0, 0, 0])},
            "black": {"psnr": curve([-1, -3, -5]), "mse": small([0.01, 0.02, 0.03])},
        },
    }


def folder_with(tmp_path, found, name="curves.json"):
    (tmp_path / name).write_text(json.dumps(found), encoding="utf-8")
    return tmp_path


def save_picture(path):
    frames = [Image.new("L", (8, 8), level) for level in (0, 255)]
    frames[0].save(path, save_all=True, append_images=frames[1:]) if path.suffix == ".gif" else frames[0].save(path)
    return path


def test_page_loads_nothing_and_runs_only_its_own_script(tmp_path):
    picture = Picture("Clip 0", "", save_picture(tmp_path / "a.gif"), save_picture(tmp_path / "a.png"), "a clip")
    page = Page(render(content(note="stand-in"), [picture], title="run"))
    references = [value for name in ("src", "href", "srcset", "action", "data") for value in page.attributes(name)]
    assert references
    assert all(re.match(r"data:[,i]|#\w+$", value) for value in references)
    assert not re.search(r"url\(|@import", page.styles)
    assert re.findall(r"\w+://[^\"]*", page.scripts[""]) == ["http://www.w3.org/2000/svg"]  # a namespace
    assert not [name for _, attrs in page.elements for name in attrs if name.startswith("on")]
    (policy,) = [attrs["content"] for _, attrs in page.elements if "http-equiv" in attrs]
    digest = base64.b64encode(hashlib.sha256(page.scripts[""].encode()).digest()).decode()
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert [tag for tag, _ in page.elements].count("script") == 3
    assert not re.search(r"\$[a-z_]+", page.text)


def test_links_and_ids_belong_together():
    found = content(definitions={"psnr": "decibels"})
    html = render(found, [Picture("a", "", None, None, "")], {"levels": [{"level": 0}]})
    page = Page(html)
    names = page.attributes("id")
    assert len(names) == len(set(names))
    assert {link[1:] for link in page.attributes("href") if link.startswith("#")} <= set(names)
    wanted = set(re.findall(r"(?:find|read)\(\"#?([a-z-]+)\"\)", page.scripts[""]))
    assert len(wanted) > 8
    assert wanted <= set(names)


def test_table_has_the_numbers_of_the_curves():
    page = Page(render(content()))
    assert list(page.tables)[:3] == ["psnr", "mse", "bias@0.5"]  # headline metrics first
    head, first, *_, third, all_ = page.tables["psnr"]
    assert head == ["frame", " model", " copy_last", " mean_frame", " black"]
    assert first[:2] == ["+1", "21.12[20.62, 21.62]"]
    assert third[:2] == ["+3", "19.00[18.50, 19.50]"]
    assert all_[:2] == ["all", "20.04[19.54, 20.54]"]
    assert page.tables["mse"][1][1] == "0.01000[0.009000, 0.01100]"
    assert [row[0] for row in page.tables["mse"]] == ["frame", "+1", "+2", "+3", "all"]


def test_a_mark_says_in_words_where_the_paired_interval_excludes_zero():
    page = Page(render(content()))
    marks = [cell.rpartition("]")[2] for cell in page.tables["psnr"][1]]
    assert marks == ["+1", "", " ▲ model better", "", " ▼ model worse"]
    marks = [cell.rpartition("]")[2] for cell in page.tables["mse"][1]]
    assert marks == ["+1", "", " ▲ model better", "", " ▼ model worse"]
    assert "model better" not in str(page.tables["bias@0.5"])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([-1, -1, -1], "▼ worse than black, the best baseline: difference -1.00 [-1.50, -0.50]"),
        ([0.1, 0.1, 0.1], "≈ no clear difference from black, the best baseline: 0.10 [-0.40, 0.60]"),
        ([2, 2, 2], "▲ better than black, the best baseline: difference 2.00 [1.50, 2.50]"),
    ],
)
def test_card_compares_with_the_best_baseline(values, words):
    found = content()
    found["differences"]["black"]["psnr"] = curve(values)
    page = Page(render(found))
    assert words in page.text
    assert "PSNR (dB) higher is better20.04 [19.54, 20.54]" in page.text
    assert "0.01900, 0.02100]▼ worse than black, the best baseline: difference 0.02000 [" in page.text  # of the MSE


def test_values_that_are_not_numbers_are_said_to_be():
    found = content()
    found["curves"]["model"]["psnr"] = curve([None, math.nan, 19.0], horizon_mean=math.inf)
    page = Page(render(found))
    rows = page.tables["psnr"]
    assert [row[1] for row in rows] == [" model", "–", "–", "19.00[18.50, 19.50]", "–"]
    assert "not a number" in page.attributes("title")
    embedded = json.loads(page.scripts["content"], parse_constant=pytest.fail)
    assert embedded["curves"]["model"]["psnr"]["mean"] == [None, None, 19.0]
    assert embedded["curves"]["model"]["psnr"]["horizon_mean"]["mean"] is None


def test_a_single_clip_has_no_intervals_and_no_marks():
    found = content()
    for part in ("curves", "differences"):
        for columns in found[part].values():
            columns["psnr"] = curve(columns["psnr"]["mean"], spread=None)
    page = Page(render(found))
    assert page.tables["psnr"][1] == ["+1", "21.12", "17.50", "20.00", "22.00"]
    assert "without an interval" in page.text


def test_embedded_numbers_are_those_of_the_file_to_seven_digits():
    found = content(seed=1)
    found["curves"]["model"]["psnr"]["mean"][0] = 21.123456789
    embedded = json.loads(Page(render(found)).scripts["content"])
    assert embedded["curves"]["model"]["psnr"]["mean"][0] == 21.12346
    assert embedded == json.loads(json.dumps(found), parse_float=lambda text: float(f"{float(text):.7g}"))


def test_text_cannot_become_markup(tmp_path):
    found = content(
        note=EVIL, warnings=[EVIL], split=EVIL, data={"name": EVIL}, series={EVIL: EVIL}, definitions={EVIL: EVIL},
        run=EVIL, metric_mode=EVIL, published_row={EVIL: {EVIL: 1.0}}, fvd=EVIL, interval=EVIL, exact_frames={EVIL: 1},
    )  # fmt: skip
    found["metrics"]["psnr"]["label"] = EVIL
    for part in ("curves", "differences"):
        found[part][EVIL] = found[part].pop("black")
    found["p_values"] = {"psnr": {EVIL: 0.5}}
    picture = Picture(EVIL, EVIL, save_picture(tmp_path / "a.gif"), None, EVIL)
    latents = {"levels": [{"level": 0, EVIL: EVIL}], "warnings": [EVIL], "rules": {EVIL: EVIL}}
    page = Page(render(found, [picture], latents, title=EVIL))
    assert [attrs for tag, attrs in page.elements if tag == "img" and not attrs["src"].startswith("data:")] == []
    assert [tag for tag, _ in page.elements].count("script") == 3
    assert not page.attributes("onerror")
    assert page.text.count(EVIL) > 20
    embedded = page.scripts["content"] + page.scripts["view"]
    assert "<" not in embedded
    assert json.loads(page.scripts["content"])["provenance"]["note"] == EVIL


def test_what_is_absent_is_left_out():
    bare = {"curves": {"model": {"psnr": curve([20, 19, 18])}}}
    page = Page(render(bare))
    assert not {"clips", "latents", "published", "definitions", "provenance", "still"} & page.ids()
    assert {"horizon", "canvas", "content", "view"} <= page.ids()
    classes = set(page.attributes("class"))
    assert not {"badges", "timeline", "facts", "warnings", "verdict better"} & classes
    assert page.tables["psnr"][0] == ["frame", " model"]
    assert "None" not in page.text


def test_files_without_descriptions_of_metrics_have_known_labels():
    old = content()
    del old["metrics"], old["curves"]["model"]["bias@0.5"], old["curves"]["copy_last"]["bias@0.5"]
    old["curves"]["model"] |= {"psnr_best4": curve([25] * 3), "own": curve([1] * 3)}
    page = Page(render(old))
    assert page.attributes("value") == ["psnr", "mse", "own"]
    assert "PSNR (dB) higher is better" in page.text
    assert page.tables["psnr"][0] == ["frame", " model", " model, best of 4", " copy_last", " mean_frame", " black"]
    assert "own neither direction is better" in page.text


def test_several_samples_have_columns_and_looks_of_their_own():
    found = content(num_samples=3, best_rule="the sample with the best PSNR", noise="sample")
    for rule in ("mean3", "best3"):
        found["curves"]["model"] |= {f"mse_{rule}": small([0.01] * 3), f"psnr_{rule}": curve([23, 22, 21])}
    page = Page(render(found))
    assert page.tables["psnr"][0][1:4] == [" model", " model, mean of 3", " model, best of 3"]
    assert page.tables["psnr"][1][3] == "23.00[22.50, 23.50]"
    assert "Best of several samples: the sample with the best PSNR." in page.text
    assert "3, sampled" in page.text
    lines = json.loads(page.scripts["view"])["metrics"][0]["lines"]
    assert [line["style"] for line in lines] == [0, 4, 5, 1, 2, 3]  # series first, as in curves.png


def test_comparison_of_runs():
    found = content(reference="copy_last", runs={"a": {"pictures": [{"clip": 1}], "seed": 4}})
    found["p_values"] = {"psnr": {"model": 0.0004, "mean_frame": 0.03, "black": 0.5}}
    found["differences"]["model"] = {"psnr": curve([-4, -4, -4])}
    del found["differences"]["copy_last"]
    page = Page(render(found))
    assert page.tables["psnr"][1][1].endswith("▼ copy_last worse")
    assert page.tables["psnr"][-1][1].endswith("▼ copy_last worse, p < 0.001")
    assert page.tables["psnr"][-1][3].endswith("] p = 0.030")
    assert page.tables["psnr"][-1][2] == "16.17[15.67, 16.67]"
    assert "worse than black, the best of the others" in page.text
    assert json.loads(page.scripts["view"])["reference"] == "copy_last"
    assert "runs.a.seed4" in page.text
    assert "runs.a.pictures" not in page.text


def test_fvd_published_rows_and_badges():
    row = {"psnr": 20.0, "ssim": None}
    found = content(
        fvd={"spec": "16 frames", "values": {"model": 321.04, "copy_last": 400.0, "elsewhere": 1.0}},
        published_row={"model": row}, metric_mode="openstl", metric_spec="htsr-1", note="stand-in", noise="mean",
    )  # fmt: skip
    page = Page(render(found))
    assert (
        "FVD lower is better321.0difference from copy_last, the best baseline: -79.0, without an interval" in page.text
    )
    assert "metrics by the convention of openstl" in page.text
    assert "As the tables of openstl have it" in page.text
    assert page.tables["published"] == [["", "psnr", "ssim"], ["model", "20.00", "–"]]
    assert "stand-in" in page.text
    assert "1, of means" in page.text
    assert "FVD: skipped: no weights" in Page(render(content(fvd="skipped: no weights"))).text


def test_latents_show_warnings_scalars_and_rules():
    levels = [{"level": 0, "kl_per_frame": 1.25, "kl": [1.0], "active_units": 20}, {"level": 1, "kl_per_frame": None}]
    latents = {"levels": levels, "warnings": ["level 1: collapsed"], "rules": {"active_units": "above 0.01"}}
    page = Page(render(content(), latents=latents))
    assert page.tables["latents"] == [["level", "kl per frame", "active units"], ["0", "1.250", "20"], ["1", "–", "–"]]
    assert "⚠ Warning: level 1: collapsed" in page.text
    assert "above 0.01" in page.text


def test_write_report_shows_the_pictures_that_are_named(tmp_path):
    for name in ("clip_3.gif", "clip_3.png", "clip_0.gif"):
        save_picture(tmp_path / name)
    named = [
        {"clip": 3, "role": "worst", "rule": "PSNR", "psnr": 12.345, "gif": "clip_3.gif", "strip": "clip_3.png"},
        {"clip": 0, "role": "first", "rule": "PSNR", "psnr": 15.0, "gif": "clip_0.gif"},
    ]
    path = write_report(folder_with(tmp_path, content(pictures=named)), title="a title")
    assert path == tmp_path / "report.html"
    page = Page(path.read_text(encoding="utf-8"))
    images = [base64.b64decode(src.partition(",")[2]) for src in page.attributes("src")]
    assert images == [(tmp_path / name).read_bytes() for name in ("clip_3.gif", "clip_3.png", "clip_0.gif")]
    assert "Worst: clip 3PSNR 12.35 dB, worst by PSNR" in page.text
    assert "Clip 0PSNR 15.00 dB" in page.text
    assert all(attrs["alt"] for tag, attrs in page.elements if tag == "img")
    assert "a title" in page.text
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "clip_0.gif", "clip_3.gif", "clip_3.png", "curves.json", "report.html",
    ]  # fmt: skip


def test_write_report_finds_unnamed_pictures_latents_and_a_title(tmp_path):
    folder = tmp_path / "some_run" / "eval" / "2000-01-01"
    folder.mkdir(parents=True)
    for name in ("clip_10.png", "clip_9.gif", "latents.png", "level_0.png", "level_0.gif"):
        save_picture(folder / name)
    folder_with(folder, {"levels": [{"level": 0, "units": 3}], "warnings": []}, "latents.json")
    folder_with(folder, content(metric_mode="openstl"), "curves.openstl.json")
    page = Page(write_report(folder).read_text(encoding="utf-8"))
    order = [page.text.index(title) for title in ("some_run", "Clip 9", "Clip 10", "All levels", "Level 0")]
    assert order == sorted(order)
    assert len(page.attributes("alt")) == 5
    folder_with(folder, content(runs={"a": {}, "b": {}}))
    assert "a vs b" in write_report(folder).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        ([{"clip": 1, "gif": "clip_1.gif"}], r"picture .*clip_1\.gif is missing; copy the whole folder"),
        ([{"clip": 1, "gif": "../secret.gif"}], r"names the picture '../secret.gif'; expected .* its own folder"),
        ([{"clip": 1, "strip": "passwd"}], r"names the picture 'passwd'"),
    ],
)
def test_refused_pictures_leave_the_old_report(tmp_path, pictures, message):
    (tmp_path / "report.html").write_text("old")
    with pytest.raises(InputError, match=message):
        write_report(folder_with(tmp_path, content(pictures=pictures)))
    assert (tmp_path / "report.html").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"has no curves\.json; give the folder of an evaluation"),
        ("{", r"curves\.json is not JSON"),
        ("[]", r"must hold a JSON object, received list"),
        ('{"curves": {}}', r"curves\.json has none; run the evaluation again"),
        (
            '{"curves": {"a": {"psnr": {"mean": [1]}}}, "provenance": {"reference": "b"}}',
            r"is 'b', but the series are a",
        ),
    ],
)
def test_refused_files(tmp_path, text, message):
    if text is not None:
        (tmp_path / "curves.json").write_text(text)
    with pytest.raises(InputError, match=message):
        write_report(tmp_path)


def test_colours_and_dashes_are_as_many_as_styles_and_those_of_the_plots():
    style = (html._ASSETS / "report.css").read_text()
    paper = re.findall(r"--c(\d): (#\w+)", style.partition("prefers-color-scheme")[0])
    colours = [f"#{value[1:].upper() if len(value) == 7 else 2 * value[1:].upper()}" for _, value in paper]
    assert colours[:7] == list(plots.OKABE_ITO[:7])  # yellow is darker on paper
    assert len(paper) == len(set(re.findall(r"--dash: ([\d ]+|none)", style))) == len(plots.OKABE_ITO)


def test_the_page_itself_is_small():
    assert len(render(content()).encode()) < 45_000


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium on the PATH to draw the curves")
def test_a_browser_draws_the_curves_without_complaint(tmp_path):
    path = write_report(folder_with(tmp_path, content()))
    options = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", "--enable-logging=stderr",
        f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=2000", "--dump-dom",
    ]  # fmt: skip
    done = subprocess.run(
        ["chromium", *options, path.as_uri()], capture_output=True, text=True, check=True, timeout=120
    )
    assert not re.search(r"CONSOLE|Content Security Policy", done.stderr)
    assert done.stdout.count('class="curve s') == 4
    assert done.stdout.count('aria-pressed="true"') == 4
    assert len(re.findall(r"<section data-metric=\"[^\"]*\" hidden", done.stdout)) == 2
