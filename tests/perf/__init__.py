"""The lab itself: what it says of a known target is what that target did."""
