"""What measures the structure of the code: the graph of imports, and traces of hot paths."""
