"""What is timed, a file a row of the scoreboard."""
