"""Make a federation of one's own data: divide items among clients, and write a scenario."""
