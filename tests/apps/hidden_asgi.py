"""An app whose kind its source does not show."""


class App:
    async def __call__(self, *_):
        raise NotImplementedError


def create():
    return App()
