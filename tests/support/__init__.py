"""What tests share: servers, processes, settings."""
