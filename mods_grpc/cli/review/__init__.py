"""Commands and parts of the watch that are about what analysts say of alerts."""
