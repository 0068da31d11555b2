"""The public role: takes clients on one port and agents on another, and joins them."""
