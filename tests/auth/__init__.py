"""May this token do that?"""
