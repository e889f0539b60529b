"""Where earlier versions had streams, for data sets of users that import them from here."""

from atbptt.windows import Stream as Stream, batchify as batchify
