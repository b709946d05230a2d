"""What is measured with timers: problems, receipts, memory, decoding."""
