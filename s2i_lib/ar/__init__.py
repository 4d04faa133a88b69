"""From a picture to something to hold: a figure, a relief, a room, and pages that show them.

``solid`` blows up the outline of what was drawn into a figure with a front and a back: a puffy one,
for nobody has seen the back. Where nothing stands out, ``depth`` asks a network what is near, and
``relief`` raises that. ``files`` writes it as GLB, USDZ and STL, ``page`` as one page that
shows it, spins it and places it in the room, without a network; ``hold`` leads a picture through
all three. ``page`` has that of a room to stand in, too. Whatever is written says that a machine
drew it, as the picture does (`s2i_lib.drawing.marks`).
"""
