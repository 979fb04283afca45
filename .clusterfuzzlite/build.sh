#!/bin/bash -eu
# build.sh -- what ClusterFuzzLite runs in its container; $OUT, $CC and the rest are its own.
cd "$SRC/hakmem"
exec fuzz/build-oss-fuzz.sh
