"""Video moment retrieval with the Maskable Retentive Network.

The product is :class:`mrnet.predictor.Predictor`; the rest follows the data: ``features`` and ``data``,
``model``, ``losses`` and ``decode``, ``training`` and ``evaluation``.
"""

from mrnet.version import __version__ as __version__
