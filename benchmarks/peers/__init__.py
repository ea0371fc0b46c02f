"""The same forecast served by other model servers, for comparison."""
