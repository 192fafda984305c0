"""Okabe and Ito's colours, which the colour-blind can tell apart.

What a colour says is said by a marker, a line's style or a sign as well. Positive numbers are blue, negative ones
orange; and so are class 1 and class 0, of which `COLOURS` and `MARKERS` are in the classes' order.
"""

ORANGE, BLUE, GREEN, RED, PURPLE, SKY, YELLOW, GREY = COLOURS = (
    "#E69F00", "#0072B2", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#777777",
)  # fmt: skip
MARKERS = "so^DvPX*"
