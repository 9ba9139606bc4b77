"""Self-supervised tasks: one file each, nothing shared but `base`. See README.md."""
