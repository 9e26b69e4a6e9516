"""Arrays, functions and designs: what everything else stands on; no finite elements."""
