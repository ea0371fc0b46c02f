"""The state of series: their windows, their place on the time grid, and the forecasts that wait for their rows."""
