"""Where earlier versions had schedules, for policies of users that import them from here."""

from atbptt.truncation import next_due as next_due
