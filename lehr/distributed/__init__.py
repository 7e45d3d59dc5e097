"""Process groups: launching ranks on one host or several, and how state is laid out over them."""
