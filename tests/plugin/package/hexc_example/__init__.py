"""An engine and a launcher that come from outside hexc."""
