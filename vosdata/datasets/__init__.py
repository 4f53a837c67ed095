"""Readers of published datasets: folders on disk to sequences."""
