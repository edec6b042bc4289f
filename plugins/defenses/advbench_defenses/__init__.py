"""advbench's own defenses, registered like any third party's."""
