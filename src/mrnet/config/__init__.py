"""The configuration: what a run depends on, and what is left of it in a checkpoint.

A :class:`~mrnet.config.run.RunConfig` comes from a recipe (``mrnet/recipes/NAME.yaml``) or a file, any field of which
can be overridden by its dotted name (``model.layers=4``). Unknown keys and values out of range are refused. A run is
reproducible from its saved configuration alone. A :class:`~mrnet.config.spec.ModelSpec` is the part that answering
needs; it holds no path.
"""
