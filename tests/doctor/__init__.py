"""The doctor, with real proxies where the tests have them, and a node of ours."""
