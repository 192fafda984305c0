"""What every experiment shares: its skeleton, what a run leaves on disk, the page, and how things are drawn."""
