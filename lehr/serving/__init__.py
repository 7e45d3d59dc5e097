"""Answering requests over HTTP with a model of ours, in OpenAI's words: `lehr serve`."""
