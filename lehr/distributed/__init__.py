"""Process groups: launching ranks, on one host or several; how state is laid out over them."""
