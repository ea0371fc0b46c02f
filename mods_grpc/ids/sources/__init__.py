"""Sources of records: log files, folders of rotations, followed live logs, and a unix socket for EVE."""
