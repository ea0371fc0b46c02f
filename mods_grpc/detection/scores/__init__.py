"""Nonconformity scores of rows, from residuals to the fused and explained p-value."""
