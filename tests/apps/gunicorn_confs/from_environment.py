"""As the images of uvicorn and gunicorn for Docker have it: everything from the environment, and a summary on standard
output. Helpers stand beside the settings, some with names of other servers' settings."""

import json
import multiprocessing
import os

per_core = float(os.getenv("WORKERS_PER_CORE", "1"))
concurrency = os.getenv("CONCURRENCY")
cores = multiprocessing.cpu_count()
most = os.getenv("MAX_WORKERS")
if concurrency:
    web_concurrency = int(concurrency)
    assert web_concurrency > 0
else:
    web_concurrency = max(int(per_core * cores), 2)
    if most:
        web_concurrency = min(web_concurrency, int(most))
host, port = os.getenv("HOST", "127.0.0.1"), os.getenv("LISTEN_PORT", "0")
use_loglevel = os.getenv("LEVEL", "debug")
access_log_var = os.getenv("ACCESS_LOG", "")

bind = os.getenv("BIND") or f"{host}:{port}"
workers = web_concurrency
loglevel = use_loglevel
accesslog = access_log_var or None
errorlog = os.getenv("ERROR_LOG") or None
worker_tmp_dir = "/dev/shm"
graceful_timeout = int(os.getenv("GRACEFUL_TIMEOUT", "120"))
timeout = int(os.getenv("TIMEOUT", "120"))
keepalive = int(os.getenv("KEEP_ALIVE", "5"))

print(json.dumps({"workers": workers, "bind": bind, "timeout": timeout, "cores": cores}))
