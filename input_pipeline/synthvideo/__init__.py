"""Videos of the synthetic crowd's people with exact identities (TRACKING, section 6).

`motion` moves the people, `render` draws frames, `truth` says who is scored, `detector` plays
a detector, `disk` writes videos and annotations, `figures` tells how hard they are.
"""
