"""The shelf: the defenses that a new one is compared with, each against attackers who do not know it and who do."""
