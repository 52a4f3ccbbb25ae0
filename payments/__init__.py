"""Payment platforms behind one contract; a leaf that never imports server."""
