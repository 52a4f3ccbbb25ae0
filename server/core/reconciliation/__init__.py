"""Our lines of a day against the platform's bill: what differs, and the cure of each difference."""
