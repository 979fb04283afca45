# bench.mk -- measuring: the trace library, the comparison with other allocators, the counted gates.
#
#   make bench          every row under every allocator that is found, out/bench/report.html
#   make bench-quick    the main rows, in 5 minutes
#   make counts         writes ci/counts.txt anew (instruction counts; gate-counts holds them)
#   make traces         records the traces in bench/traces/ anew
# Variables: PEERS="NAME=/path/lib.so ...", BENCH_FLAGS="--rows a,b --rounds 9" (bench/compare --help)

TRACE_CFLAGS := -std=c11 -O2 -g -fPIC -fvisibility=hidden -ftls-model=initial-exec -fexceptions \
                -fno-builtin-malloc -fno-builtin-calloc -fno-builtin-realloc -fno-builtin-free

$(REL)/libhakmem-trace.so: bench/trace/recorder.c bench/trace/format.h $(OUT)/release/obj/flags
	@mkdir -p $(@D)
	$(CC) $(TRACE_CFLAGS) $(WFLAGS) $(CFLAGS) -shared -Wl,-z,now -o $@ $< $(LDFLAGS)

release: $(REL)/libhakmem-trace.so

export PEERS
.PHONY: bench bench-quick counts traces
bench: release
	@bench/compare $(BENCH_FLAGS)
bench-quick: release
	@bench/compare --quick $(BENCH_FLAGS)
counts: release
	@ci/gate-counts.sh --update
traces: release
	@bench/record-traces
