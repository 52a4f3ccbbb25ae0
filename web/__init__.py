"""Templates, styles and vendored scripts of the H5 pages (data only)."""
