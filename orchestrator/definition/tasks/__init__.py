"""One file for each construct of the language. Imports the compiler. Pure."""
