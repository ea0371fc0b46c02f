"""Fitting of trees: boosting of leaves that hold whole paths, and boosted models with their networks."""
