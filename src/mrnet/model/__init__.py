"""The network: clips, retention transformer, proposal map, scores."""
