"""Evaluation: tasks, their examples, and scores with sample sizes and standard errors."""
