"""Real programs on both sides: nginx, curl, wrk, squid, websockets, and a Go Piko."""
