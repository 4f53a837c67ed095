"""A-GAME: a generative appearance model for end-to-end video object segmentation (CVPR 2019)."""
