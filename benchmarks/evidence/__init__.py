"""Evidence of one revision: every table of figures in the pages, the program that gives it, and what it gave when."""
