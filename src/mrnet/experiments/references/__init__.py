"""Other ways to find a moment, as small as they can be, trained on the same features under the same protocol."""
