"""What is indexed: the videos that names stand for, and their bytes as local files."""
