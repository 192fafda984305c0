"""Side-by-side timings against peers, a file a row of the scoreboard; the peers' own code stays here."""
