"""Short runs of benchmarks with the bounds that the documentation promises."""
