"""Tests of answers share answer_samples.py and answer_feeds.py."""
