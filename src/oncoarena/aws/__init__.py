"""Everything that knows AWS beside s3:// paths: settings, checks before the first job, and the set-up itself."""
