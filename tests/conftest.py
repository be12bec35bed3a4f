"""Fixtures for all tests."""

from tests.servers import faults, moto_endpoint, s3, s3_rclone

__all__ = ["faults", "moto_endpoint", "s3", "s3_rclone"]
