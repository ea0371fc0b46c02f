"""Fixed rules: published thresholds that need no model, as a floor below the detector; off its false-alarm budget."""
