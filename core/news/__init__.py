"""News of a coin, rated by a model, for strategies that declare `needs = ("news",)`.

Owns `data/news.db` (SQLite): articles with their ratings, when each service may be asked
again, and what was spent today. One file for all bots of the yard: what one bot has had
rated, the others read. No trade ever waits for it: whatever fails here becomes a note.
"""
