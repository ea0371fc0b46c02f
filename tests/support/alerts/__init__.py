"""Sample alerts, the schema of EVE, and receivers of syslog, for tests."""
