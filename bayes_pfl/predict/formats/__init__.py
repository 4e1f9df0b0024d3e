"""What a folder run writes for other tools: one file for each format."""
