from fuzz.served import served

__all__ = ["served"]
