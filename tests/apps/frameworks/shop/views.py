"""The shop's pages: forms and sessions, files, streams, and two that are coroutines."""

import asyncio
import hashlib
import threading

from django import forms
from django.contrib.auth.decorators import login_required
from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from .models import Order, Picture


class OrderForm(forms.ModelForm):
    class Meta:
        model = Order
        fields = ["item", "count"]


class PictureForm(forms.Form):
    title = forms.CharField(max_length=40)
    file = forms.FileField()


@require_safe
def visits(request):
    """A counter in the session, which the database keeps."""
    count = request.session.get("visits", 0) + 1
    request.session["visits"] = count
    return HttpResponse(f"visit {count}", content_type="text/plain")


@login_required
def members(request):
    return HttpResponse(f"hello, {request.user.username}", content_type="text/plain")


@require_http_methods(["GET", "POST"])
def orders(request):
    """A form, behind CSRF protection; what it takes goes into the database."""
    form = OrderForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        form.save()
        return redirect(reverse("orders"))
    status = 400 if form.is_bound else 200
    return render(request, "form.html", {"form": form, "orders": Order.objects.all()}, status=status)


@require_safe
def export(request):
    """Rows as they come from the database."""

    def rows():
        yield "item,count\n"
        for order in Order.objects.order_by("id").iterator(chunk_size=100):
            yield f"{order.item},{order.count}\n"

    return StreamingHttpResponse(rows(), content_type="text/csv")


@require_safe
async def export_async(request):
    """The same by an asynchronous generator."""

    async def rows():
        yield "item,count\n"
        async for order in Order.objects.order_by("id").aiterator(chunk_size=100):
            await asyncio.sleep(0)
            yield f"{order.item},{order.count}\n"

    return StreamingHttpResponse(rows(), content_type="text/csv")


async def summary(request):
    """Two things at once, and a query: all asynchronous."""

    async def after(seconds, value):
        await asyncio.sleep(seconds)
        return value

    waited = await asyncio.gather(after(0.02, 1), after(0.01, 2))
    return JsonResponse({"orders": await Order.objects.acount(), "waited": waited})


@require_http_methods(["GET", "POST"])
def pictures(request):
    """An upload: what came is stored, and its digest told."""
    form = PictureForm(request.POST or None, request.FILES or None)
    if request.method == "GET":
        return render(request, "form.html", {"form": form})
    if not form.is_valid():
        return JsonResponse(form.errors, status=400)
    upload = form.cleaned_data["file"]
    digest = hashlib.sha256()
    for chunk in upload.chunks():
        digest.update(chunk)
    stored = Picture.objects.create(
        title=form.cleaned_data["title"], file=upload, digest=digest.hexdigest()
    )
    facts = {"number": stored.pk, "size": upload.size, "digest": stored.digest, "title": stored.title}
    return JsonResponse(facts, status=201)


@require_safe
def picture(request, number):
    """An upload, back from the disk."""
    stored = get_object_or_404(Picture, pk=number)
    return FileResponse(stored.file.open("rb"), as_attachment=True, filename="picture.bin")


def broken(request):
    raise RuntimeError("this page is broken")


def where(request):
    """Which server runs this, and where."""
    kind = "asgi" if hasattr(request, "scope") else "wsgi"
    return JsonResponse(
        {
            "kind": kind,
            "thread": threading.current_thread().name,
            "scheme": request.scheme,
            "host": request.get_host(),
            "path": request.get_full_path(),
            "address": request.META["REMOTE_ADDR"],
        }
    )
