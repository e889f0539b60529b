"""Streams under the name of earlier versions, for users' data sets that import them from here."""

from atbptt.windows import Stream as Stream, batchify as batchify
