"""Numbers as the page writes them; its figures to handle do the same in JavaScript, `powerOfTen` of page/svg.js."""

import re

EXPONENT = re.compile(r"(?<![\w.])(-?\d+(?:\.\d+)?)e([+-]\d+)\b")
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def powers_of_ten(text: str) -> str:
    """The text with powers of ten where Python writes exponents.

    >>> powers_of_ten("They differ by 3.2e-15.")
    'They differ by 3.2·10⁻¹⁵.'
    """
    return EXPONENT.sub(lambda number: f"{number[1]}·10{str(int(number[2])).translate(RAISED)}", text)
