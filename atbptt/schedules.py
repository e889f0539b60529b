"""Schedules under the name of earlier versions, for users' policies that import them from here."""

from atbptt.truncation import next_due as next_due
