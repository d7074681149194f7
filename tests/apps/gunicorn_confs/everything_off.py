"""The long kind, generated or copied: every setting there is, most as it is anyway."""

import multiprocessing

bind = ["127.0.0.1:0"]
backlog = 2048
workers = min(2, multiprocessing.cpu_count() * 2 + 1)
worker_class = "sync"
worker_connections = 1000
threads = 1
timeout = 30
keepalive = 2
max_requests = 10_000
max_requests_jitter = 1_000
preload_app = False
reload = False
reload_engine = "auto"
spew = False
check_config = False
daemon = False
raw_env = []
pidfile = None
umask = 0
user = None
group = None
tmp_upload_dir = None
worker_tmp_dir = None
secure_scheme_headers = {
    "X-FORWARDED-PROTOCOL": "ssl",
    "X-FORWARDED-PROTO": "https",
    "X-FORWARDED-SSL": "on",
}
forwarded_allow_ips = "127.0.0.1"
errorlog = "-"
loglevel = "warn"
accesslog = None
access_log_format = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s" %(D)s'
capture_output = False
enable_stdio_inheritance = False
disable_redirect_access_to_syslog = False
syslog = False
syslog_facility = "user"
statsd_host = None
statsd_prefix = ""
proc_name = None
default_proc_name = "long"
limit_request_line = 8192
limit_request_fields = 100
limit_request_field_size = 8190
keyfile = None
certfile = None
ca_certs = None
cert_reqs = 0
ssl_version = 2
suppress_ragged_eofs = True
do_handshake_on_connect = False
ciphers = None
proxy_protocol = False
proxy_allow_ips = "127.0.0.1,::1"
sendfile = None
reuse_port = False
initgroups = False
http2_max_concurrent_streams = 100
dirty_workers = 0
logger_class = "gunicorn.glogging.Logger"
worker_priority = 5
keep_alive_seconds = 3
