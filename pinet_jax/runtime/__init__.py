"""Devices, hosts, files and progress."""
