"""What a sweep shows: tables, pictures, summary files and the line of a finished cell."""
