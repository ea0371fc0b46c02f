"""The watch: scores windows on the server, raises each alert once, and resumes from a checkpoint."""
