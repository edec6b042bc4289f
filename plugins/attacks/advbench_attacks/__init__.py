"""advbench's own attacks, registered like any third party's."""
