"""What moves between devices, read from compiled programs, and what that means for GPUs that are not here."""
