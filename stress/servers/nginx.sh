#!/usr/bin/env bash
# nginx.sh -- nginx with two workers, gzip and reloads (new workers, old ones ending) under ab; ab finds no
# answer that failed or changed its length, and whole files come back as they are.
. "$(dirname "$0")/common.inc"
need nginx nginx-light ab apache2-utils curl curl

mkdir -p "$work/www" "$work/tmp"
for size in 100 5000 60000 900000; do
    head -c "$size" < <(yes "line $size of a text that compresses") >"$work/www/$size.txt"
done
port=$((20000 + $$ % 20000))
cat >"$work/nginx.conf" <<END
daemon off;
worker_processes 2;
user root root;
pid $work/nginx.pid;
error_log $work/error.log warn;
events { worker_connections 512; }
http {
    access_log off;
    client_body_temp_path $work/tmp;
    proxy_temp_path $work/tmp/p;
    gzip on;
    gzip_types text/plain;
    gzip_min_length 100;
    types { text/plain txt; }
    server {
        listen 127.0.0.1:$port;
        root $work/www;
        location /proxied/ { proxy_pass http://127.0.0.1:$port/; }
    }
}
END
serve nginx -p "$work" -c "$work/nginx.conf"
url=http://127.0.0.1:$port
until_ready curl -sf "$url/100.txt"
has_library "$server"
end=$((SECONDS + seconds))
requests=0 reloads=0
while ((SECONDS < end)); do
    for path in 100.txt 5000.txt proxied/60000.txt 900000.txt; do
        timeout 120 ab -q -n 2000 -c 24 -H 'Accept-Encoding: gzip' "$url/$path" >"$work/ab.out" 2>&1 || {
            cat "$work/ab.out" >&2
            fail "ab $path"
        }
        grep -q '^Failed requests: *0$' "$work/ab.out" || fail "$(grep -A1 '^Failed' "$work/ab.out")"
        if grep -q '^Non-2xx' "$work/ab.out"; then fail "$(grep '^Non-2xx' "$work/ab.out")"; fi
        requests=$((requests + 2000))
        for encoding in identity gzip; do
            curl -sf --compressed -H "Accept-Encoding: $encoding" "$url/$path" | cmp - "$work/www/${path##*/}" ||
                fail "$path comes back changed ($encoding)"
        done
    done
    kill -HUP "$server" && reloads=$((reloads + 1))
done
worker=$(pgrep -P "$server" | tail -n 1)
has_library "$worker"
used=$(rss_mib "$worker")
stop QUIT
grep -E '\[(alert|crit|emerg)\]' "$work/error.log" && fail "nginx reports"
echo "nginx: $requests requests, $reloads reloads, peak RSS of a worker $used MiB"
