"""The code that workers and tasks run with torch: training, sampling, evaluation."""
