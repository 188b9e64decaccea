"""A visitor's own parts: photographs gathered, a detector trained in a process of its own, used, and taken away.

`photographs`: what was uploaded, unpacked and checked. `run`: the training, seen from the page. `worker`: the training
itself. `own`: the finished detector. `judging`: photographs it judged. `state`: all that is one visitor's. `report`:
that in words and pictures. Everything lies in one private folder per training.
"""
