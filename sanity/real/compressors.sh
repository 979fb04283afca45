#!/usr/bin/env bash
# compressors.sh -- xz and zstd with two threads: the compressed file is the same, and so is what comes back.
. "$(dirname "$0")/common.inc"
need xz zstd
seq 1 700000 | awk '{ print $1 * 7919 % 1000003, $1 }' >data
head -c 3000000 data >smaller
preload_works xz --version
preload_works zstd --version
same "xz -T2" xz -T2 --block-size=700KiB -3 -c smaller
mv under.out data.xz
same "xz -d -T2" xz -d -T2 -c data.xz
same_file "xz round trip" under.out smaller
same "zstd -T2" zstd -q -T2 -9 -c data
mv under.out data.zst
same "zstd -d" zstd -q -d -c data.zst
same_file "zstd round trip" under.out data
if command -v bzip2 gzip >/dev/null; then
    same "gzip" gzip -n -c data
    same "bzip2" bzip2 -c smaller
fi
