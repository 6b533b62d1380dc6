"""The machine's door: HTTP for shops. No rule about money lives here."""
