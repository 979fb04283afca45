# HAKMEM -- build, test, install.  `make help` lists the targets and variables.
#
# One source tree, several builds of it, each in its own folder below $(OUT):
#   release       what is shipped             -O3, HKM_CHECK=0
#   debug         the checked library         -O1, HKM_CHECK=2
#   san-<name>    for the tests, hkm_ prefix only, clang -O1, a sanitizer
# Objects depend on the exact command line (a `flags` file), so that changing CC,
# CFLAGS or WERROR rebuilds what it has to.

# ---- what the user may set ------------------------------------------------------

ifeq ($(origin CC),default)
CC := gcc
endif
ifeq ($(origin CXX),default)
CXX := g++
endif
OUT     ?= out
PREFIX  ?= /usr/local
LIBDIR  ?= $(PREFIX)/lib
BINDIR  ?= $(PREFIX)/bin
DESTDIR ?=
SANCC   ?= clang-19
OBJCOPY ?= $(shell $(CC) -print-prog-name=objcopy)
TIDY    ?= clang-tidy-19
# CFLAGS and LDFLAGS come after the project's own; WERROR=1 turns warnings into errors.
CFLAGS  ?=
LDFLAGS ?=
WERROR  ?=

# ---- sources, version, flags ----------------------------------------------------

SRCS     := $(sort $(wildcard src/*/*.c))
OVERRIDE := $(filter src/api/override%.c,$(SRCS))
PREFIXED := $(filter-out $(OVERRIDE),$(SRCS))
# In the shared libraries alone: a static program has a dlopen and a prctl of its own.
DLOPEN   := src/api/override_dlopen.c
SHARED   := $(DLOPEN) src/api/override_prctl.c
# Whose functions hand on to others: these must see the caller's frame, or its return address.
TAIL     := $(DLOPEN) src/api/override_cxx.c
ARCHIVED := $(filter-out $(SHARED),$(SRCS))
HEADERS  := $(sort $(wildcard include/hakmem/*.h src/*/*.h))
MAP      := src/libhakmem.map
LAYOUT   := src/libhakmem.ld

version_part = $(shell sed -n 's/^.define HKM_VERSION_$(1) \([0-9]*\).*/\1/p' include/hakmem/hakmem.h)
VERSION := $(call version_part,MAJOR).$(call version_part,MINOR).$(call version_part,PATCH)
ABI     := 1

WARN := -Wall -Wextra -Wundef -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
        -Wpointer-arith -Wcast-qual -Wvla -Wwrite-strings
BASE := -std=c11 -D_GNU_SOURCE -Iinclude -Isrc -fPIC -fvisibility=hidden -fno-plt \
        -fno-builtin-malloc -fexceptions -ftls-model=initial-exec
WFLAGS := $(WARN) $(if $(WERROR),-Werror)

SO_LDFLAGS := -shared -Wl,-z,now -Wl,-z,nodelete -Wl,-z,relro -Wl,-z,noseparate-code -Wl,--hash-style=gnu \
              -Wl,--gc-sections -Wl,--sort-section=name -Wl,--no-undefined -Wl,--version-script=$(MAP) \
              -Wl,-T,$(LAYOUT) -Wl,-z,max-page-size=65536 -Wl,-z,common-page-size=4096

# Each build: its compiler and its flags.  CHECK_x is the one difference in the source.
SANITIZERS := thread address undefined memory
VARIANTS   := release debug $(SANITIZERS:%=san-%)
CHECK_release := 0
CHECK_debug   := 2
OPT_release   := -O3 -g
OPT_debug     := -O1 -g -fno-omit-frame-pointer
# src/check: in the release library only hkm_heap_check runs it; in the debug library all calls do.
# Reports and statistics are as rare.
# What runs once or never is small, too, and lies apart (src/libhakmem.ld has the same names, but for
# those that each process may run and that are no slower so: arena.c, options.c (whose strings few
# read), packet.c, prefault.c and os_linux.c).
OPT_CHECK_release := -Oz -ffunction-sections -fdata-sections
OPT_CHECK_debug   := -O2
RARE_release      := $(addprefix src/core/,backtrace.c foreign.c huge.c maps.c options.c report.c stats.c) src/os/vdso.c $(SHARED)
OPT_COLD_release  := -Os -ffunction-sections -fdata-sections
COLD_release      := $(addprefix src/core/,arena.c packet.c prefault.c) src/os/os_linux.c
# Smaller, and not slower but where large blocks are resized (1 %).
PLAIN_release     := $(addprefix src/core/,alloc.c decay.c heap_life.c heap_remote.c heap_runs.c superslab.c) src/api/override_cxx.c
OPT_PLAIN_release := -O2
# The loops over blocks take up to 5 % longer where they happen to lie across lines of the code.
HOT_release     := src/api/override.c $(addprefix src/core/,heap.c heap_remote.c heap_runs.c slot.c)
OPT_HOT_release := -falign-functions=64 -falign-loops=32
OPT_san       := -O1 -g -fno-omit-frame-pointer
SAN_thread    := -fsanitize=thread
SAN_address   := -fsanitize=address -fsanitize=undefined -fno-sanitize-recover=all
SAN_undefined := -fsanitize=undefined -fno-sanitize-recover=all
SAN_memory    := -fsanitize=memory -fsanitize-memory-track-origins

# A name may end in -debug (a sanitizer's build of the checked library) and in -noise (scheduling
# noise at the allocator's own steps, for stress/ only).
is_san   = $(filter san-%,$(1))
kind_of  = $(patsubst %-debug,%,$(patsubst %-noise,%,$(1)))
check_of = $(if $(filter san-%,$(1)),$(if $(filter %-debug %-debug-noise,$(1)),$(CHECK_debug),0),$(CHECK_$(1:%-noise=%)))
cc_of    = $(if $(call is_san,$(1)),$(SANCC),$(or $(CC_$(1)),$(CC)))
opt_of   = $(if $(call is_san,$(1)),$(OPT_san) $(SAN_$(patsubst san-%,%,$(call kind_of,$(1)))),$(OPT_$(1:%-noise=%)))\
           $(if $(filter %-noise,$(1)),-DHKM_NOISE=1)
# Everything of a build's command line but the warnings and the file names; the tests use it too.
flags_of = $(BASE) $(call opt_of,$(1)) -DHKM_CHECK=$(call check_of,$(1))

# ---- the targets people type ----------------------------------------------------

.PHONY: all release debug san help run test lint house-rules invariants install uninstall clean FORCE
.DELETE_ON_ERROR:
.SECONDARY:

REL := $(OUT)/release
DBG := $(OUT)/debug

# `make SAN=thread` builds that sanitizer's library and nothing else.
ifdef SAN
all: $(OUT)/san-$(SAN)/libhkm.a
else
all: release debug
endif

release: $(REL)/libhakmem.so $(REL)/libhakmem.a $(REL)/libhkm.a $(REL)/hakmem-run
debug:   $(DBG)/libhakmem-debug.so $(DBG)/libhkm-debug.a
san:     $(SANITIZERS:%=$(OUT)/san-%/libhkm.a)

help:
	@echo 'HAKMEM $(VERSION).  Targets:'
	@echo '  make            release and debug libraries, in $(OUT)/release and $(OUT)/debug'
	@echo '  make run        install what is missing, build, run real programs under glibc'
	@echo '                  and under the library, compare; CMD="..." for a command of yours'
	@echo '  make test       install what is missing, build, run every test (ci/test --help)'
	@echo '  make stress     threads until something gives; SAN=thread, THREADS=8, SEED=1,'
	@echo '                  STRESS_SECONDS=5; also stress-full, stress-servers, soak HOURS=1'
	@echo '  make fuzz       libFuzzer; fuzz-swarm, fuzz-afl, fuzz-replay, fuzz-coverage: fuzz/README.md'
	@echo '  make invariants  the numbered invariants, what checks them, and when'
	@echo '  make lint       clang-tidy, cppcheck and the house rules (ci/tidy)'
	@echo '  make bench      measure against other allocators, out/bench/report.html; make bench-quick'
	@echo '  make counts     write the instruction counts that gate-counts holds (ci/counts.txt)'
	@echo '  make san        the sanitizer builds for the tests; SAN=thread for only one'
	@echo '  make install    header, libraries, hakmem.pc, hakmem-run; make uninstall'
	@echo '  make clean      remove $(OUT)'
	@echo 'Variables (now): CC=$(CC) CXX=$(CXX) CFLAGS=$(CFLAGS) LDFLAGS=$(LDFLAGS) WERROR=$(WERROR)'
	@echo '  OUT=$(OUT) PREFIX=$(PREFIX) LIBDIR=$(LIBDIR) BINDIR=$(BINDIR) DESTDIR=$(DESTDIR)'

# ---- libraries ------------------------------------------------------------------

# remember(text): the recipe of a file that holds `text` and is written only when that changed.
define remember
@mkdir -p $(@D)
@text='$(subst ','\'',$(1))'; \
 if [ "$$(cat $@ 2>/dev/null)" != "$$text" ]; then printf '%s\n' "$$text" > $@; fi
endef

# build_template(variant): how its objects are compiled, and when they are stale; `sources` makes
# the libraries stale when a source file has come or gone.
define build_template
$(OUT)/$(1)/obj/flags: FORCE
	$$(call remember,$(call cc_of,$(1)) $(call flags_of,$(1)) $(WFLAGS) $$(CFLAGS) \
	    $(OPT_CHECK_$(1)) $(RARE_$(1)) $(foreach kind,COLD PLAIN HOT,$(OPT_$(kind)_$(1)) $($(kind)_$(1))))
$(OUT)/$(1)/obj/sources: FORCE
	$$(call remember,$(SRCS) $$(LDFLAGS))

$(OUT)/$(1)/obj/%.o: src/%.c $(OUT)/$(1)/obj/flags
	@mkdir -p $$(@D)
	$(call cc_of,$(1)) $(call flags_of,$(1)) $$(if $$(filter src/check/% $(RARE_$(1)),$$<),$(OPT_CHECK_$(1))) $$(if $$(filter $(COLD_$(1)),$$<),$(OPT_COLD_$(1))) $$(if $$(filter $(PLAIN_$(1)),$$<),$(OPT_PLAIN_$(1))) $$(if $$(filter $(HOT_$(1)),$$<),$(OPT_HOT_$(1))) $$(if $$(filter $(TAIL),$$<),-foptimize-sibling-calls) $(WFLAGS) $$(CFLAGS) -MMD -MP -c -o $$@ $$<

-include $(SRCS:src/%.c=$(OUT)/$(1)/obj/%.d)
endef
$(foreach variant,$(VARIANTS),$(eval $(call build_template,$(variant))))

# What a library of the variant is made from: the objects of these sources, and the list of sources.
objs = $(patsubst src/%.c,$(OUT)/$(1)/obj/%.o,$(2)) $(OUT)/$(1)/obj/sources

define make_archive
@mkdir -p $(@D)
@rm -f $@
$(AR) rcs $@ $(filter %.o,$^)
endef

$(REL)/libhkm.a: $(call objs,release,$(PREFIXED))
	$(make_archive)
$(DBG)/libhkm-debug.a: $(call objs,debug,$(PREFIXED))
	$(make_archive)

define san_template
$(OUT)/san-$(1)/libhkm.a: $(call objs,san-$(1),$(PREFIXED))
	$$(make_archive)
endef
$(foreach name,$(SANITIZERS),$(eval $(call san_template,$(name))))

$(REL)/libhakmem.so.$(ABI): $(call objs,release,$(SRCS)) $(MAP) $(LAYOUT)
	$(CC) $(SO_LDFLAGS) -Wl,-soname,$(@F) $(CFLAGS) -o $@ $(filter %.o,$^) $(LDFLAGS)
$(DBG)/libhakmem-debug.so.$(ABI): $(call objs,debug,$(SRCS)) $(MAP) $(LAYOUT)
	$(CC) $(SO_LDFLAGS) -Wl,-soname,$(@F) $(CFLAGS) -o $@ $(filter %.o,$^) $(LDFLAGS)
%.so: %.so.$(ABI)
	ln -sf $(<F) $@

# The static libraries for programs are one relocatable object each, in which the hidden symbols
# have become local: names such as pool_take must not meet a program's own; and who takes operator
# new from one has its malloc, too.
$(REL)/dist/libhkm.a: $(call objs,release,$(PREFIXED))
$(REL)/libhakmem.a: $(call objs,release,$(ARCHIVED))
$(REL)/dist/libhkm.a $(REL)/libhakmem.a:
	@mkdir -p $(@D)
	@rm -f $@
	$(CC) -r -nostdlib -o $(@:.a=.o) $(filter %.o,$^)
	$(OBJCOPY) --localize-hidden $(@:.a=.o)
	$(AR) rcs $@ $(@:.a=.o)

# ---- the sanity programs (which of them, and how they are run: ci/test) -----------
#
#   $(OUT)/<variant>/test/unit/NAME   sanity/unit/NAME.c with Criterion and the variant's libhkm
#   $(OUT)/valgrind/test/unit/NAME    the same for valgrind: release, without Criterion (forked.inc)
#   $(OUT)/<variant>/test/api/NAME    sanity/api/NAME.c with the variant's libhkm
#   $(OUT)/test/plain/NAME, $(OUT)/test/misuse/NAME    with no allocator linked, for LD_PRELOAD
#   $(OUT)/test/page64k.so          tells a library that is preloaded after it of larger pages
#
# ci/test makes some of these for aarch64, too, by OUT=$(OUT)/aarch64 and a cross compiler as CC.
#
# A source may ask for more with a comment line `test-flags: -lfoo -static`.  What the compiler
# says goes to NAME.log (the misuse programs draw warnings on purpose); the program is gone while
# it does not compile.

TEST_CFLAGS := -Isanity -Wall -Wextra -fno-builtin-malloc -fno-builtin-calloc \
               -fno-builtin-realloc -fno-builtin-free -pthread
hkm_of = $(OUT)/$(1)/libhkm$(if $(filter debug,$(1)),-debug).a

# compile_test(command, libraries)
define compile_test
@mkdir -p $(@D)
@rm -f $@
@echo 'test $@'
@more=$$(sed -n 's|.*test-flags: *\([^*]*[^* ]\).*|\1|p' $<); \
 $(1) $(CFLAGS) -MMD -MP -MF $@.d -MT $@ -o $@ $< $(2) $$more > $@.log 2>&1 \
   || { rm -f $@; cat $@.log; exit 1; }
endef

define test_template
$(OUT)/$(1)/test/unit/%: sanity/unit/%.c $(call hkm_of,$(1))
	$$(call compile_test,$(call cc_of,$(1)) $(filter-out -fPIC,$(call flags_of,$(1))) $(TEST_CFLAGS),$(call hkm_of,$(1)) -lcriterion -ldl -lm)
$(OUT)/$(1)/test/negative/%: sanity/negative/%.c sanity/negative/negative.inc $(call hkm_of,$(1))
	$$(call compile_test,$(call cc_of,$(1)) $(filter-out -fPIC,$(call flags_of,$(1))) $(TEST_CFLAGS),$(call hkm_of,$(1)) -ldl -lm)
$(OUT)/$(1)/test/api/%: sanity/api/%.c $(call hkm_of,$(1))
	$$(call compile_test,$(call cc_of,$(1)) $(filter-out -fPIC,$(call flags_of,$(1))) $(TEST_CFLAGS),$(call hkm_of,$(1)) -ldl -lm)
-include $(wildcard $(OUT)/$(1)/test/*/*.d)
endef
$(foreach variant,$(VARIANTS),$(eval $(call test_template,$(variant))))

$(OUT)/valgrind/test/unit/%: sanity/unit/%.c $(call hkm_of,release)
	$(call compile_test,$(call cc_of,release) $(filter-out -fPIC,$(call flags_of,release)) $(TEST_CFLAGS) -DUNIT_FORKED,$(call hkm_of,release) -ldl -lm)
-include $(wildcard $(OUT)/valgrind/test/unit/*.d)

PLAIN_CFLAGS := -O1 -g -D_GNU_SOURCE -Iinclude $(TEST_CFLAGS)
$(OUT)/test/%: sanity/%.c
	$(call compile_test,$(CC) -std=c11 $(PLAIN_CFLAGS),-ldl -lm)
$(OUT)/test/%: sanity/%.cc
	$(call compile_test,$(CXX) -std=c++17 $(PLAIN_CFLAGS),-ldl -lm)
-include $(wildcard $(OUT)/test/*/*.d)
# To be preloaded before a library: tells it of pages of so many KiB.
$(OUT)/test/page%k.so: sanity/page_size.c
	$(call compile_test,$(CC) -std=c11 -O1 -g -D_GNU_SOURCE -Wall -Wextra -DPAGE_BYTES=$*u*1024u -fPIC -shared,-ldl)

# ---- run, test, lint ------------------------------------------------------------

export OUT CC CXX
# As typed: make would expand the $ in a shell command.
export RUN_COMMAND := $(value CMD)

run:
	@ci/setup
	@$(MAKE) --no-print-directory -s release
	@ci/run-demo

test:
	@ci/setup
	@ci/test

# A file is linted again when it, a header or the configuration changed.
LINT_OK := $(SRCS:src/%.c=$(OUT)/lint/%.ok)
$(OUT)/lint/%.ok: src/%.c $(HEADERS) .clang-tidy
	@mkdir -p $(@D)
	$(TIDY) --quiet --warnings-as-errors='*' $< -- $(BASE) -DHKM_CHECK=2 2>$@.log || { cat $@.log; exit 1; }
	@touch $@

$(OUT)/lint/cppcheck.ok: $(SRCS) $(HEADERS) ci/cppcheck.suppress
	@mkdir -p $(@D)/cppcheck
	cppcheck --quiet --std=c11 --language=c --error-exitcode=1 --enable=warning,performance,portability \
	    --suppressions-list=ci/cppcheck.suppress --cppcheck-build-dir=$(@D)/cppcheck \
	    -Iinclude -Isrc -D_GNU_SOURCE -DHKM_CHECK=2 -D__x86_64__ -D__linux__ -D__GNUC__=12 $(SRCS)
	@touch $@

# Prerequisites all, so that `make -k lint` reports everything there is.
lint: $(LINT_OK) $(OUT)/lint/cppcheck.ok house-rules
house-rules:
	ci/tidy
invariants:
	@ci/invariants

# ---- install --------------------------------------------------------------------

# hakmem-run finds the library relative to itself, so that the tree below DESTDIR may move.
LIB_FROM_BIN = $(shell realpath -m --relative-to='$(BINDIR)' '$(LIBDIR)')
FILL_IN = sed -e 's|@VERSION@|$(VERSION)|g' -e 's|@PREFIX@|$(PREFIX)|g' -e 's|@LIBDIR@|$(LIBDIR)|g' \
              -e 's|@LIB_FROM_BIN@|$(LIB_FROM_BIN)|g'

$(REL)/hakmem-run: ci/hakmem-run.in include/hakmem/hakmem.h Makefile
	@mkdir -p $(@D)
	@$(FILL_IN) $< > $@ && chmod 755 $@

PUBLIC_HEADERS := $(wildcard include/hakmem/*.h)
MAN_PAGES      := $(wildcard man/*.[1-8] docs/*.[1-8])
man_dir         = $(DESTDIR)$(PREFIX)/share/man/man$(subst .,,$(suffix $(1)))

install: release debug $(REL)/dist/libhkm.a
	install -d '$(DESTDIR)$(PREFIX)/include/hakmem' '$(DESTDIR)$(LIBDIR)/pkgconfig' '$(DESTDIR)$(BINDIR)'
	install -m 644 $(PUBLIC_HEADERS) '$(DESTDIR)$(PREFIX)/include/hakmem/'
	install -m 755 $(REL)/libhakmem.so.$(ABI) '$(DESTDIR)$(LIBDIR)/libhakmem.so.$(VERSION)'
	ln -sf libhakmem.so.$(VERSION) '$(DESTDIR)$(LIBDIR)/libhakmem.so.$(ABI)'
	ln -sf libhakmem.so.$(ABI) '$(DESTDIR)$(LIBDIR)/libhakmem.so'
	install -m 755 $(DBG)/libhakmem-debug.so.$(ABI) '$(DESTDIR)$(LIBDIR)/libhakmem-debug.so.$(VERSION)'
	ln -sf libhakmem-debug.so.$(VERSION) '$(DESTDIR)$(LIBDIR)/libhakmem-debug.so.$(ABI)'
	ln -sf libhakmem-debug.so.$(ABI) '$(DESTDIR)$(LIBDIR)/libhakmem-debug.so'
	install -m 755 $(REL)/libhakmem-trace.so '$(DESTDIR)$(LIBDIR)/'
	install -m 644 $(REL)/libhakmem.a $(REL)/dist/libhkm.a '$(DESTDIR)$(LIBDIR)/'
	$(FILL_IN) ci/hakmem.pc.in > '$(DESTDIR)$(LIBDIR)/pkgconfig/hakmem.pc'
	$(FILL_IN) ci/hakmem-run.in > '$(DESTDIR)$(BINDIR)/hakmem-run'
	chmod 644 '$(DESTDIR)$(LIBDIR)/pkgconfig/hakmem.pc'
	chmod 755 '$(DESTDIR)$(BINDIR)/hakmem-run'
	$(foreach page,$(MAN_PAGES),install -D -m 644 $(page) '$(call man_dir,$(page))/$(notdir $(page))' &&) true

uninstall:
	rm -f $(foreach h,$(PUBLIC_HEADERS),'$(DESTDIR)$(PREFIX)/include/hakmem/$(notdir $(h))')
	rm -f '$(DESTDIR)$(LIBDIR)'/libhakmem.so* '$(DESTDIR)$(LIBDIR)'/libhakmem-debug.so*
	rm -f '$(DESTDIR)$(LIBDIR)/libhakmem-trace.so'
	rm -f '$(DESTDIR)$(LIBDIR)/libhakmem.a' '$(DESTDIR)$(LIBDIR)/libhkm.a'
	rm -f '$(DESTDIR)$(LIBDIR)/pkgconfig/hakmem.pc' '$(DESTDIR)$(BINDIR)/hakmem-run'
	rm -f $(foreach page,$(MAN_PAGES),'$(call man_dir,$(page))/$(notdir $(page))')
	-rmdir --ignore-fail-on-non-empty '$(DESTDIR)$(PREFIX)/include/hakmem'

clean:
	rm -rf '$(OUT)'

# ---- measuring --------------------------------------------------------------------

include bench/bench.mk
include fuzz/fuzz.mk
include fuzz/mutants/mutants.mk

# ---- stress ----------------------------------------------------------------------

include stress/stress.mk
include sanity/steps/steps.mk
