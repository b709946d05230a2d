"""What a check of a kernel is: cases, oracle, bounds, guards, and the processes they run in."""
