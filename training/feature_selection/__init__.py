"""feature_selection."""
