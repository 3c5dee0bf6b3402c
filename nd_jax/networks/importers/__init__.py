"""Weights that come from elsewhere: readers of foreign files and their translation into the families."""
