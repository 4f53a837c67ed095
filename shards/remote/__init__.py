"""Shard sets at URLs: through a cache that processes share, or by ranged reads. Loaded only when a URL is opened."""
