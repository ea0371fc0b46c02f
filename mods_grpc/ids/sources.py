"""Where records come from: a log, a folder of rotations, or a live folder that is followed. Bounded memory throughout.

    reader = LogReader("/opt/zeek/logs/current", follow=True)
    for record in reader.poll():      # all that is there now, in the order in which it was logged
        ...
    saved = reader.position().to_json()   # after the record that was yielded last

`LogReader(path, position=Position.from_json(saved))` goes on with the record after it, even if the file was rotated,
compressed and moved meanwhile.
"""
