"""Training: the loop, its state on disk, and what several processes share."""
