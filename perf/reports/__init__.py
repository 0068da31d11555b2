"""A record for people: tables on the terminal, pages, pictures."""
