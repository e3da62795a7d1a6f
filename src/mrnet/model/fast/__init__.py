"""The proposal convolutions, many times sooner."""
