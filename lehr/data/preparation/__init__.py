"""The preparation of documents: read and filtered part by part, compared as a whole, written part by part."""
