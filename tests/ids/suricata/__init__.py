"""Events of real Suricata, from captures made here, against what the captures hold."""
