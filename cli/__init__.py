"""The command line: `refundry`."""
