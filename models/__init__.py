"""Model families, their tasks and the knobs they expose. Importing this package never imports torch."""
