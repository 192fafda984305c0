"""The page as a file: it opens from disk and needs nothing else, fits every screen, and can be read by everybody."""

import json
import re

import pytest

import experiments.__main__ as all_experiments
from experiments.page import assemble

WIDTHS = (360, 800, 1400)


@pytest.fixture(scope="module")
def text(file):
    return file.read_text(encoding="utf-8")


def test_it_opens_without_an_error_and_every_figure_is_mounted(open_page):
    page = open_page()
    figures = page.locator("figure[data-figure]")
    assert figures.count() == len(assemble.FIGURE.findall((assemble.HERE / "page.html").read_text()))
    assert page.locator("figure fieldset[hidden], figure .answer[hidden], figure .missing").count() == 0
    assert page.evaluate("[...document.querySelectorAll('input')].every(input => input.labels.length)")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_of_it_is_wider_than_the_screen(width, scheme, open_page):
    page = open_page(width, scheme)
    page.evaluate("document.querySelectorAll('details').forEach(report => { report.open = true })")
    assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1400])
def test_a_checker_of_accessibility_finds_nothing(width, scheme, open_page):
    """Contrast, labels, names and order, by axe-core; reports are folded out."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = open_page(width, scheme)
    page.evaluate("document.querySelectorAll('details').forEach(report => { report.open = true })")
    found = axe.run(page).response["violations"]
    assert [(fault["id"], [node["html"][:200] for node in fault["nodes"]]) for fault in found] == []


@pytest.mark.parametrize("width", WIDTHS)
def test_letters_are_large_enough(width, open_page):
    """At least 14 px on the screen, also in pictures, where a letter shrinks with its picture."""
    small = """[...document.querySelectorAll('p, td, th, label, output, legend, figure svg text')].filter(element => {
        const box = element.getBoundingClientRect(), svg = element.ownerSVGElement
        const scale = svg ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1
        const size = parseFloat(getComputedStyle(element).fontSize) * scale
        return box.height && element.textContent.trim() && size < 13.95
    }).map(element => element.outerHTML.slice(0, 200))"""
    assert open_page(width).evaluate(small) == []


def test_it_can_be_read_without_javascript(open_page):
    page = open_page(java_script_enabled=False)
    headings = [heading.split()[0] for heading in page.locator("h2").all_inner_texts()]
    assert headings == ["The", *map(str, range(1, 11)), "Beyond", "Every"]
    assert page.locator("math[display=block]").count() >= 10
    for figure in page.locator("figure[data-figure]").all():
        still = figure.locator("svg[role=img]")
        assert (
            still.count() == 1 and still.bounding_box()["height"] > 100 and len(still.get_attribute("aria-label")) > 20
        )
        assert not figure.locator("fieldset").first.is_visible()


def test_a_figure_whose_module_fails_keeps_its_still_picture(browser, text, tmp_path):
    """Also where it fails late, when its own picture has taken that place; the others are mounted."""
    broken = tmp_path / "index.html"
    broken.write_text(re.sub(r'("nets":)\[.*?\](,"accuracy_of_the_best_line")', r"\1[]\2", text), encoding="utf-8")
    assert broken.stat().st_size < len(text.encode())
    with browser.new_context() as context:
        page, told = context.new_page(), []
        page.on("console", lambda message: told.append(message.text))
        page.goto(broken.as_uri())
        linearity = page.locator("figure[data-figure=linearity]")
        assert linearity.locator("svg[role=img]").get_attribute("aria-label").startswith("The boundary of identity")
        assert linearity.get_attribute("data-depth") is None and not linearity.locator("fieldset").is_visible()
        assert page.locator("figure[data-figure=planar] fieldset").is_visible()
    assert [line.split(":")[0] for line in told] == ["the figure linearity keeps its still picture"]


def test_it_is_small(file):
    assert file.stat().st_size < 4e6


def test_nothing_in_it_leads_elsewhere(text):
    assert not re.search(r"(src|href|srcset)=\"(?!#|data:)", text) and not re.search(r"@import|<link|<iframe", text)
    targets = set(re.findall(r'href="#([^"]+)"', text))
    assert targets <= set(re.findall(r'\bid="([^"]+)"', text))


def test_every_id_is_there_once(text):
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert sorted(ids) == sorted(set(ids))


def test_every_experiment_has_its_place():
    document = (assemble.HERE / "page.html").read_text()
    placed = [name for names in assemble.REPORTS.findall(document) for name in names.split()]
    assert sorted(placed) == sorted([*all_experiments.sections(), "others"])


def test_claims_stand_in_the_order_of_the_page(text):
    head, claims = text.split('id="claims"')
    reports = re.findall(r'<details class="report" id="report-(\w+)"', head)
    assert re.findall(r'href="#report-(\w+)"', claims) == reports and reports.index("representation") == 0
    assert list(all_experiments.sections()) != reports  # which sections() sorts by numbers and names


def test_a_figure_without_results_says_so(tmp_path):
    html = assemble.page({"representation": None}, tmp_path)
    figure = re.search(r"<figure data-figure=\"representation\".*?</figure>", html, re.DOTALL)[0]
    assert "has no results yet: python -m experiments --only representation" in figure
    assert "<figcaption>" in figure and "<input" not in figure and 'id="data-representation"' not in html


def test_a_figure_whose_experiment_broke_says_so(tmp_path):
    html = assemble.figure("<figure><figcaption>f</figcaption><input></figure>", None, {"error": "e"}, "planar")
    assert "ended with an error, which its report below shows" in html and "<input" not in html


def test_data_cannot_end_their_script():
    script = assemble.as_json("it", {"text": "</script><!--", "still": "<svg>"})
    assert script.count("<") == 2
    assert json.loads(re.search(r">(.*)<", script)[1]) == {"text": "</script><!--"}


def test_modules_are_joined_without_imports_and_exports():
    script = assemble.script(["representation"])
    assert not re.search(r"^(import|export)\b", script, re.MULTILINE)
    assert script.index("function svg(") < script.index("function forward(") < script.index("figures.representation =")
