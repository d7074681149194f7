"""A small shop: a Django project with its database in SQLite, under WSGI and ASGI.

`SHOP_DATA` names the directory of the database and the uploads.
"""
