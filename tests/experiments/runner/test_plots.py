"""Figures as SVG for the page: one picture for each place of their grids, in the page's colours."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from experiments.runner import plots
from jaxnet.plot.colours import BLUE


@pytest.fixture
def figure():
    """Two places, one with an image and its colour bar, in a subfigure with a title, and a place that is empty."""
    figure = plots.figure(8, 3)
    left, right = figure.subfigures(1, 2)
    axes, empty = left.subplots(1, 2)
    axes.plot([0, 1], [0.123456, 0.5], color=BLUE)
    axes.set_title("A & B")
    empty.axis("off")
    right.suptitle("The images")
    field, last = right.subplots(2, 1)
    last.set_title("Last")
    image = field.imshow(np.eye(2))
    field.text(0, 0, "0.123456", color="white")
    field.text(1, 1, "about 3.4e-07")
    right.colorbar(image, ax=field)
    return figure


@pytest.fixture
def parts(figure):
    return plots.panels(figure, "it", "What it shows.")


def test_each_place_is_a_picture_and_a_title_stands_before_its_own(parts):
    assert [re.match(r"<\w+", part)[0] for part in parts] == ["<svg", "<p", "<svg", "<svg"]
    assert parts[1] == "<p>The images</p>"
    pictures = [ElementTree.fromstring(part.replace("xlink:", "")) for part in (parts[0], *parts[2:])]
    assert [picture.get("aria-label") for picture in pictures] == ["A & B", "What it shows.", "Last"]
    assert [len(list(picture)) for picture in pictures] == [2, 2, 1]  # with what cuts off; with the colour bar; alone


def test_a_picture_is_as_large_as_its_place(figure, parts):
    widths = [float(re.search(r'viewBox="[\d.]+ [\d.]+ ([\d.]+)', part)[1]) for part in (parts[0], parts[2])]
    assert all(0 < width < 72 * 8 / 2 for width in widths)
    assert f'width="{round(widths[0] / 0.75)}"' in parts[0]


def test_it_has_the_colours_of_the_page_and_what_is_read_on_an_image_its_own(parts):
    assert "var(--blue)" in parts[0] and "currentColor" in parts[0] and "#000000" not in parts[0]
    assert "#fefefe" in parts[2] and "#ffffff" not in parts[2]


def test_numbers_are_short_but_not_those_that_are_read(parts):
    assert "0.123456" in parts[2] and "about 3.4·10⁻⁷<" in parts[2]  # with powers of ten, as the page has them
    assert not re.search(r'[ "]\d+\.\d{3,}', parts[0])


def test_ids_begin_with_the_name_and_are_found(parts):
    page = "".join(parts)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids)) and all(own.startswith("it-") for own in ids)
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', page)) <= set(ids)


def test_a_whole_figure_is_one_picture(figure):
    whole = plots.svg(figure, "it", "What it shows.")
    assert ElementTree.fromstring(whole.replace("xlink:", "")).get("viewBox") == "0.0 0.0 576.0 216.0"
    assert whole.count("<svg") == 1 and "xmlns" not in whole and "<style" not in whole and "<metadata" not in whole
