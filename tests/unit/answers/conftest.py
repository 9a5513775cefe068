"""Tests of answers share answer_samples.py, answer_resolver.py and answer_feeds.py."""
