"""Who is calling: sessions, API keys, login tokens and permissions."""
