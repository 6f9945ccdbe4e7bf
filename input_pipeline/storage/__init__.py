"""Datasets on disk: read, checked, prepared, opened."""
