"""Sets of conversations, preferences and prompts that a user supplies: reading, recognising, checking, rendering."""
