"""What a street is and what lines it: layout, ground, houses, borders, trees, furniture."""
