"""What makes it fast or small and never changes the mathematics."""
