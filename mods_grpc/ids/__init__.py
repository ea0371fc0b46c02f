"""Network logs in, alerts out: reads logs of Zeek and Suricata, has their windows scored by the server, and raises alerts."""
