"""The truth bench: networks whose units' true preferences are known, or where they look, and how near methods come.

A bench is a set of chapters. Each measures on planted networks and returns a `chapter.Chapter`: figures as JSON and the
HTML of its part of the page; `page.write` binds them. Chapter 1 is `visualization`, told by `story`, on networks of
`planted.plant`; chapter 2 is `attribution`, told by `attribution_story`, on networks of `attribution_networks.plant`.
"""
