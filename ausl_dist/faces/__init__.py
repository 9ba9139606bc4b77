"""What a face in a picture is: decoding of source video, detection, tracking, alignment,
landmarks; see README.md.
"""
