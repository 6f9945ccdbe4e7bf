"""One get_config() a dataset; base.py holds what they share."""
