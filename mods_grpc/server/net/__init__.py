"""The listeners that bind the server's address over either transport."""
