"""Preference pairs are made here: questions, answers to them, and who says which is better."""
