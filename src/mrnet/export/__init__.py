"""What one does with moments: clips, subtitles, edit lists, a picture, tables."""
