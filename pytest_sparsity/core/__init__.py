"""The ground: errors, files, progress, statistics, what the operating system and git say."""
