"""Many videos, indexed once and searched together."""
