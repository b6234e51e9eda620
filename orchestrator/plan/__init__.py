"""From settings to points, trials and stages with their keys, without torch, Ray or a store."""
