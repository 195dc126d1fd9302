"""``fedmosaic report``: one page that shows what some runs found, and the same figures and tables for a paper.

collect.py    what is read from run folders and comparison folders
sections.py   the runs of one scenario, by algorithm and seed, with their statistics
verdict.py    who won, by how much, how sure, who learned from whom: in words
matrices.py   relevance, accuracy of each client on each task, gates: as coloured tables
figures.py    the pictures, drawn once for the page and once for a paper; ink.py holds their colours
tables.py     tables as CSV, Markdown and LaTeX
page.py       the page itself, from page.html.j2, page.css and page.js
export.py     figures and tables as files
"""
