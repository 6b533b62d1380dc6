"""The database: the refund row is the job, and every change of it is one guarded statement."""
