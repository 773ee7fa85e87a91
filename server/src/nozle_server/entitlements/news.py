"""What is announced when rights may have changed; whoever keeps decisions decides anew."""

ENTITLEMENTS_CHANGED = "entitlements.changed"
"""What plans, features or a subscription allow has changed, for any customer of the organization."""

USAGE_COUNTED = "usage.counted"
"""Usage of these customers (payload `customers`: our ids) has moved; told only while somebody watches it."""
