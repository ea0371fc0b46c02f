"""Which rule keeps a budget of false alarms over all series."""
