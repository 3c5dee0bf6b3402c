"""Parts of experiments/benchmark_visualize.py: cases, the PyTorch side, scale, accelerators, tables."""
