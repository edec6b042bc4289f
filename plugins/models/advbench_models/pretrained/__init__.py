"""Models of other libraries, by their names there, with the libraries' own preprocessing as a part of the network."""
