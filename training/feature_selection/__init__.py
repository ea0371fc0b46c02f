"""Feature selection: statistics of each column that say whether it is worth forecasting."""
