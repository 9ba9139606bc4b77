"""One style, table and plot for every HTML page; see README.md."""
