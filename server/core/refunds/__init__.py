"""What may be given back, by which way, and what follows from each word about it."""
