"""Video moment retrieval with the Maskable Retentive Network.

The product is :class:`mrnet.predictor.Predictor`. The rest follows the data: ``media``, ``features`` and ``data`` make
batches, ``model`` and ``losses`` learn, ``retrieval`` answers, ``training`` and ``evaluation`` join them.
"""

import os

from mrnet.version import __version__ as __version__

# Threads that wait for another sleep. By default they spin, and beside a program that needs their core, most of the
# time of both goes into that. OpenMP reads this once, when torch is imported: where that was before, nothing changes.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
