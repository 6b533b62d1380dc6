"""The use cases: what Refundry does, callable without Celery."""
