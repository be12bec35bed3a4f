"""Text that people write and read: matched, compared, and made safe to show."""
