"""Processes to do harm to, which begin with all that is slow to import.

They are forked off one that has done nothing but import: the threads of a process that has used LanceDB do not come
along when it is forked, and what is waited for then never comes.
"""

import warnings
from multiprocessing import get_context

FORKS = get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "tests.fuzz.pool",
        "mrnet.cli.find",
        "mrnet.training.loop",
        "mrnet.features.encoders.efficientnet",
        "mrnet.features.encoders.minilm",
        "lancedb",
        "starlette.testclient",
        "tokenizers",
        "torch._dynamo",
        "uvicorn.server",
    ]
)
# In all of them.
warnings.filterwarnings("ignore", "lancedb fork support is experimental", RuntimeWarning)
