"""Tests of answers share answer_samples.py."""
