"""The operators' console: pages for people over the use cases of the engine. No rule about money lives here."""
