"""From trusted readings to an explained business day."""
