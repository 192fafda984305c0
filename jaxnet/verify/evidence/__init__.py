"""What is known of the derivative without the gradient under test."""
