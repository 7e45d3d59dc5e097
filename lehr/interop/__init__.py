"""Models from elsewhere and for elsewhere: Hugging Face and GGUF, in and out, with the proof that both agree."""
