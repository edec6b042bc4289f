"""Common corruptions: noise, blur, weather and digital artefacts, without an adversary."""
