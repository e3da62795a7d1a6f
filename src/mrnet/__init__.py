"""Video moment retrieval with the Maskable Retentive Network."""

__version__ = "0.1.0"
