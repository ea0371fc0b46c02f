"""What several tests share: servers, peers, models and data."""
