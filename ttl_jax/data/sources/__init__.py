"""Sources of images and labels: one file a kind."""
