"""One HTML page about a search, made by `write.write_report`. Data steps, pure, and drawing steps are apart."""
