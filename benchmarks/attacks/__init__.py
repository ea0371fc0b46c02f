"""Places recorded attacks in real traffic, runs the product on it as a user would, and counts what is found."""
