"""Readers of published datasets: folders on disk to sequences.

``recognise`` finds out what a folder holds, ``open_videos`` reads it (or a shard set) video by video.
"""

from vosdata.datasets.dataset import Dataset
from vosdata.datasets.recognise import recognise
from vosdata.datasets.types import ObjectMeta, Sequence, Split
from vosdata.datasets.videos import Video, open_videos

__all__ = ["Dataset", "ObjectMeta", "Sequence", "Split", "Video", "open_videos", "recognise"]
