"""Floor 3, doors: HTTP for managers, kiosks, the public, operators. Parse, call, render."""
