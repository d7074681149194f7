"""What the shop keeps."""

from django.db import models


class Order(models.Model):
    item = models.CharField(max_length=40)
    count = models.PositiveIntegerField()
    placed = models.DateTimeField(auto_now_add=True)


class Picture(models.Model):
    title = models.CharField(max_length=40)
    file = models.FileField(upload_to="pictures")
    digest = models.CharField(max_length=64)
