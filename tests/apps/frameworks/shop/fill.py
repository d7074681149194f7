"""``python -m shop.fill``: the tables, a user and two thousand orders, as a deployment's first step makes them."""

import os

import django
from django.core.management import call_command

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")


def fill():
    django.setup()
    call_command("migrate", verbosity=0)

    from django.contrib.auth.models import User

    from .models import Order

    User.objects.create_user("ann", password="sesame")
    Order.objects.bulk_create(Order(item=f"thing {number}", count=number) for number in range(2000))


if __name__ == "__main__":
    fill()
