"""Completion in bash, zsh and fish: the command line as data (tree), and a script for each shell (scripts)."""
