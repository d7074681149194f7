"""The shop's addresses."""

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path
from django.views.static import serve

from . import views
from .settings import BASE

urlpatterns = [
    path("", views.visits),
    path("login/", LoginView.as_view(template_name="form.html"), name="login"),
    path("logout/", LogoutView.as_view(next_page="/")),
    path("members/", views.members, name="members"),
    path("orders/", views.orders, name="orders"),
    path("orders.csv", views.export),
    path("orders-async.csv", views.export_async),
    path("summary/", views.summary),
    path("pictures/", views.pictures),
    path("pictures/<int:number>/", views.picture, name="picture"),
    path("static/<path:path>", serve, {"document_root": BASE / "static"}),
    path("broken/", views.broken),
    path("where/", views.where),
]
