"""The `lehr` command: one file per group. Reads arguments, calls one room, prints."""
