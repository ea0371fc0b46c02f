"""HTTP/2 peers for tests: a client, a hand-written peer, attackers."""
