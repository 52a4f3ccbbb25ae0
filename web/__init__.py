"""Templates, messages, styles and scripts of the H5 pages: data only, found by FOLDER."""

from pathlib import Path

FOLDER = Path(__file__).parent
