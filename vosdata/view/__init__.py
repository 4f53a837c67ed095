"""Pictures where people would rather look than read: overlays, contact sheets, videos, HTML pages."""
