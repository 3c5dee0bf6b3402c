"""The truth bench: networks whose units' true preferences are known, and how near each method comes to them.

A bench is a set of chapters over the same planted networks (`planted.plant`). Each chapter is one file with one
function `run` that returns a `chapter.Chapter`: figures as JSON and the HTML of its part of the page. `page.write`
binds them. Chapter 1 is `visualization`.
"""
