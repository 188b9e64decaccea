"""What score files alone tell: runs, statistics, comparisons, maps, failures, tables. No torch."""
