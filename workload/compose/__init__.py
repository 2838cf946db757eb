"""What docker-compose.yml needs: its configuration files, its passwords and tokens, its images' digests."""
