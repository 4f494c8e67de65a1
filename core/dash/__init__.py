"""What the page shows, computed. simple_dash.py has the routes and the page itself.

`watch` reads a bot's files, only what is new · `rows` makes a line of the overview and the
totals · `trades` puts fills together · `details` is one bot seen closely · `inputs` checks
what people send · `account` is the view "Account & risk" and what is changed there,
`standing` what of it every look at the page shows · `hands` does what a person asks of one
bot · `market` asks exchanges, never in the way of the page · `gate` decides who may speak to
the page. No file of a bot is written here.
"""
