"""advbench's own models, registered like any third party's."""
