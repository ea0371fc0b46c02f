"""Evidence: which hosts, ports, names and paths made an alert, from counts that are kept with the panes."""
