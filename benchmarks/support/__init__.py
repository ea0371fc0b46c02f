"""What several benchmarks share: server processes, clients, messages, result files."""
