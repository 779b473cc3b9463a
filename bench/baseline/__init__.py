"""Hold the ordinary programs that the benchmarks compare with."""
