"""Write the page of ``fedmosaic report``, and the same figures and tables as files.

collect.py    find the runs in run folders and comparison folders
run_data.py   read one finished run
sections.py   group runs by scenario, label and seed; statistics
verdict.py    the best algorithm, its margin and how certain it is
peers.py      favoured peers, and relevance weights against controls
wording.py    numbers in words
matrix.py     coloured tables of the page
matrices.py   relevance, scores by client and task, gates
figures.py    the figures, for the page and for a paper
axes.py       points, lines and names in a figure
palette.py    colours and marks of the labels
drawing.py    figures as SVG and PNG
tables.py     tables as CSV, Markdown and LaTeX
page.py       the page, from page.html.j2, page.css and page.js
export.py     figures and tables as files
"""
