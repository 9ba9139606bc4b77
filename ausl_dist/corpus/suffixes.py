"""What files are taken for, by the end of their names, where a folder is searched."""

VIDEO_SUFFIXES = frozenset(
    (
        *(
            ".mp4",
            ".m4v",
            ".mov",
            ".mkv",
            ".webm",
            ".avi",
            ".mpg",
            ".mpeg",
            ".wmv",
            ".asf",
            ".gif",
        ),
        *(".flv", ".f4v", ".ts", ".mts", ".m2ts", ".3gp", ".3g2", ".ogv", ".vob", ".mxf"),
        *(".divx", ".dv"),
    )
)
LIST_SUFFIXES = frozenset((".txt", ".lst"))
SHARD_SUFFIX = ".tar"
TABLE_SUFFIXES = frozenset((".parquet", ".arrow"))
