"""Spot the bug: each wrong formula shows its gradient and a report that fails and names it."""

import re

import jax
import numpy as np
import pytest

from experiments.verifier.backward import plain_loss
from experiments.verifier.mutants import MUTANTS
from experiments.verifier.points import random_problem
from experiments.verifier.spot_the_bug import FORMULAS, LEAVES, RIGHT, SIZES, M
from tests.experiments.page.test_backpropagation import numbers

WRONG = [(formula.of, name) for formula in FORMULAS for name in formula.wrong]


@pytest.fixture(scope="module")
def data(explored):
    return explored("verifier")


@pytest.fixture
def game(figure):
    return figure("verifier")


def shown(game, column):
    """A column of numbers, by leaf: 0 by the formulas, 1 by jax.grad."""
    found = {}
    for body in game.locator(".picture tbody").all():
        cells = [row.locator("td").nth(column).inner_text() for row in body.locator("tr:not(:first-child)").all()]
        found[body.locator("th").first.inner_text().split(",")[0]] = numbers(filter(None, cells))
    return found


def test_the_data_are_of_twelve_mutants(data):
    assert len(WRONG) == 12 and set(data["cases"]) == {RIGHT, *(name for _, name in WRONG)}
    assert sorted(data["order"]) == sorted(name for _, name in WRONG)


def test_all_right_is_a_pass(game, data):
    assert game.get_attribute("data-verdict") == "PASS"
    assert game.locator(".answer td:last-child").all_inner_texts() == ["PASS"] * 4
    params, X, Y = random_problem(SIZES, M, jax.random.key(0))
    expected = [np.asarray(leaf).ravel() for leaf in jax.tree.leaves(jax.grad(plain_loss)(params, X, Y))]
    for column in (0, 1):
        found = shown(game, column)
        assert list(found) == list(LEAVES.values())
        for leaf, values in zip(found.values(), expected, strict=True):
            assert leaf == pytest.approx(values, abs=0.000501)


@pytest.mark.parametrize(("formula", "name"), WRONG)
def test_a_wrong_formula_is_refused_and_named(formula, name, game):
    other = game.locator("select").first if formula != "dZ[2]" else game.locator("select").last
    other.select_option(index=1)
    game.locator(f"select[name='{formula}']").select_option(name)
    assert other.input_value() == RIGHT  # one at a time
    assert (game.get_attribute("data-case"), game.get_attribute("data-verdict")) == (name, "FAIL")
    answer = game.locator(".answer").inner_text()
    assert answer.startswith("FAIL") and re.search(MUTANTS[name].cause, answer, re.IGNORECASE)
    failed = {row.locator("th").inner_text() for row in game.locator(".answer tr:has(.failed)").all()}
    assert failed == {f"d{leaf}[{index + 1}]" for index, leaf in MUTANTS[name].wrong}
    params, X, Y = random_problem(SIZES, M, jax.random.key(0))
    expected = [np.asarray(leaf).ravel() for leaf in jax.tree.leaves(MUTANTS[name].gradient(params, X, Y))]
    for leaf, values in zip(shown(game, 0).values(), expected, strict=True):
        assert leaf == pytest.approx(values, abs=0.000501)


def test_the_error_starts_where_the_formula_is_wrong(data):
    starts = {name: data["cases"][name]["report"]["starts_at"] for _, name in WRONG}
    assert starts == {name: formula for formula, name in WRONG}


def test_one_is_hidden_guessed_and_revealed(game, data):
    hide, ask = game.locator("button").all()
    by_name = {name: formula for formula, name in WRONG}
    ask.click(force=True)  # nothing is hidden
    assert game.get_attribute("data-rounds") == "0"
    for count, name in enumerate(data["order"][:3], 1):
        hide.click()
        assert game.get_attribute("data-case") == game.get_attribute("data-verdict") == ""
        assert all(select.input_value() == RIGHT for select in game.locator("select").all())
        assert "FAIL" not in game.locator(".answer").inner_text() and game.locator(".answer td").count() == 0
        gradient = np.ravel(data["cases"][name]["gradient"]["dW[2]"])
        assert shown(game, 0)["dW[2]"] == pytest.approx(gradient, abs=0.000501)
        guess = name if count != 2 else next(other for other in data["order"] if other != name)
        game.locator(f"select[name='{by_name[guess]}']").select_option(guess)
        assert game.get_attribute("data-verdict") == ""
        ask.click()
        assert (game.get_attribute("data-case"), game.get_attribute("data-verdict")) == (name, "FAIL")
        assert game.locator(f"select[name='{by_name[name]}']").input_value() == name
        answer = game.locator(".answer").inner_text()
        assert answer.startswith("Spotted" if guess == name else "Not d")
        assert f"{count - (count > 1)} of {count} spotted" in answer
    hide.click()
    ask.click()
    assert game.locator(".answer").inner_text().startswith("No guess")
    assert (game.get_attribute("data-spotted"), game.get_attribute("data-rounds")) == ("2", "4")
