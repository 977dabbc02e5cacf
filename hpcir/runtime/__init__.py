"""The process and its ranks: communicator, launcher, stop requests, display."""
