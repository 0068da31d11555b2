"""Decisions that need no waiting: who serves this endpoint?"""
