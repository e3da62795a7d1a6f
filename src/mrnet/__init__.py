"""Video moment retrieval with the Maskable Retentive Network.

The product is :class:`mrnet.predictor.Predictor`. The rest follows the data: ``media``, ``features`` and ``data`` make
batches, ``model`` and ``losses`` learn, ``retrieval`` answers, ``training`` and ``evaluation`` join them.
"""

from mrnet.version import __version__ as __version__
