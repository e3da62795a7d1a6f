"""From files to feature rows: video frames, backbones, text, and the store that keeps them."""
