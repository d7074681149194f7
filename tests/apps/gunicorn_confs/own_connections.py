"""A preloaded app whose database connections belong to one process each."""

preload_app = True
workers = 2


def post_fork(server, worker):
    import pool

    pool.forget()
    server.log.info("worker %s has a pool of its own", worker.pid)


def worker_exit(server, worker):
    import pool

    pool.close()
    server.log.info("worker %s has closed its pool", worker.pid)
