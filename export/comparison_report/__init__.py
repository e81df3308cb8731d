"""A report that compares the files of one model: schemes and targets side by side.

`plan_files` says which files there are, `reported_images` which images are reported and
which others calibrate, `measure_file` makes and measures one file, `kept` keeps what
was found for a run that goes on, `choice` recommends, `report_page` writes it all.
"""
