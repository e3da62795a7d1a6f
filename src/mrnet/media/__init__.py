"""Video and sound files, decoded and encoded."""
