"""Decisions that need no waiting: who serves this endpoint, and may this token do that?"""
