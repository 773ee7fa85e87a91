from world import client, live_world, other_world, services, world

__all__ = ["client", "live_world", "other_world", "services", "world"]
