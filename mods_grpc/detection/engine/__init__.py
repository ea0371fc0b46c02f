"""The detector over time: applies rows to the state of series, forecasts and scores them, one by one or in batches."""
