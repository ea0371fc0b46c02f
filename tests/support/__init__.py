"""Servers, peers, models and data that several tests share."""
