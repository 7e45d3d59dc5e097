"""From documents to batches: read, filter, deduplicate, decontaminate, tokenize, mix, load."""
