"""What commands leave for people to read: pages, charts, pictures and tables."""
