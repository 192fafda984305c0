"""Okabe and Ito's colours, which the colour-blind can tell apart.

What a colour says is said by a marker, a line's style or a sign as well.
"""

BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW, GREY = COLOURS = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#777777",
)  # fmt: skip
MARKERS = "o^sDvPX*"
