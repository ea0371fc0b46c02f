"""StreamDetect: one call, reconnection over many, and the rows that a restarted server is warmed up with."""
