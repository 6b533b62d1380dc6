"""One module for each screen: what it shows, and which use cases its buttons call."""
