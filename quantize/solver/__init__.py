"""Rounding the weights of one layer. Knows no file and no job."""
