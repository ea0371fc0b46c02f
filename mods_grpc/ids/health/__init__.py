"""What was read and whether it can be trusted: accounts, doubts, and notices that monitoring is impaired."""
