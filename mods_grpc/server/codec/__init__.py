"""Messages to arrays and back, with validation."""
