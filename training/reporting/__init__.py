"""Reports on an evaluation: the HTML page and its figures."""
