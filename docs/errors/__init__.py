"""The pages of `hexc explain CODE`, one a code."""
