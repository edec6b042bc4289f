"""advbench's own datasets, registered like any third party's."""
