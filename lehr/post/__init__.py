"""Post-training: chat template, SFT, preferences, verifiable rewards."""
