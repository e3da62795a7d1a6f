"""Video moment retrieval with the Maskable Retentive Network.

The product is :class:`mrnet.predictor.Predictor`; the rest follows the data: ``features`` and ``data``,
``model``, ``losses`` and ``decode``, ``training`` and ``evaluation``.
"""

__version__ = "0.1.0"
