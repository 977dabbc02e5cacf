"""Structure files in the forms that people write."""
