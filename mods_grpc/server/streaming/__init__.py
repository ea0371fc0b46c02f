"""StreamDetect calls: registry, I/O, session and row scorer."""
