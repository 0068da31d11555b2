"""Who serves this endpoint?"""
