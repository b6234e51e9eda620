"""From settings to points, trials and stages with their keys. No torch, no Ray, no store."""
