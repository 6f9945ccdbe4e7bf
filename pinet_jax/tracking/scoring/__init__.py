"""Tracks held against the truth: the protocols of PoseTrack and one for any skeleton."""
