"""Writers: files for graph viewers, drawings and the explorer page."""
