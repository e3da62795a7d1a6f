"""From files and sentences to a feature store."""
