"""The demo mall as values: who is there, what they used, what they paid. No I/O here."""
