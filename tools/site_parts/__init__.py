"""What ``tools/build_site.py`` is made of: pages, formulas, recorded numbers, weights, smaller stylesheets."""
