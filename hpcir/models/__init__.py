"""Networks, the potential and charge models built of them, and their inference."""
