"""A-GAME: a generative appearance model for end-to-end video object segmentation (CVPR 2019)."""

from vosdata.models.agame.config import AGAMEConfig
from vosdata.models.agame.network import AGAME, AGAMEOutput
from vosdata.models.agame.segmenter import VideoSegmenter

__all__ = ["AGAME", "AGAMEConfig", "AGAMEOutput", "VideoSegmenter"]
