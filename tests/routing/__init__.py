"""Who serves this endpoint, and may this token do that?"""
