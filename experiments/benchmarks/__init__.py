"""Side-by-side timings against peers, row by row of a scoreboard; the peers' own code stays in here."""
