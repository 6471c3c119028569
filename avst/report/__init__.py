"""`avst report`: one folder that opens in a browser from disk, where every answer can be looked at over its video.

run.py         a run's recipe, groups and evaluations, as they lie on disk
questions.py   question id -> Question, from the annotations or, where they have moved, from the completions
judging.py     answers -> what the page shows of them: boxes, intervals, rewards with their reasons, IoU by second
collect.py     which groups and evaluations answer which question, of one run or two
figures.py     reward curves and tables;  before_after.py: which evaluations stand in which table
video.py       links, copies or conversions of the videos; sound.py: the peaks of their waveforms
write.py       data as .js files (a page on disk may not fetch JSON), the static files, the folder itself
build.py       all of it in order;  serve.py: the folder over loopback HTTP, with ranges
static/        the page: plain JavaScript and CSS, one concern a file, no build step
"""
