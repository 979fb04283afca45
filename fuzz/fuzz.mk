# fuzz.mk -- the fuzzers: one harness, four engines.  fuzz/README.md says what they play.
#
#   make fuzz            libFuzzer for FUZZ_SECONDS (60), on the checked source with ASan and UBSan
#   make fuzz-afl        AFL++ for FUZZ_SECONDS
#   make fuzz-swarm      the swarm for SECONDS (60) on the debug and the release library; SEED
#   make fuzz-replay FILE=...    in words; SHRINK=1: shrinks what fails, to FILE.min
#   make fuzz-minimize   merges what was found into corpus/ops/seed
#   make fuzz-coverage   lines and branches of src/ that the corpus and the tests reach
#
# More builds of the checked source:
#   libfuzzer   clang-19, ASan and UBSan, instrumented for libFuzzer
#   afl         afl-clang-fast, instrumented for AFL++
#   cover, cover-release    clang-19, counting what is reached, checked and release source
# $(OUT)/<variant>/fuzz/NAME are the programs; release, debug and san-address have replay and swarm.

FUZZ_SECONDS ?= 60
SECONDS      ?= 60
AFLCC        ?= afl-clang-fast
FUZZ_OUT     := $(OUT)/fuzz
FUZZ_FLAGS   := -Ifuzz -pthread $(WARN)
# Of override.c, which is not in libhkm, the harness has mallinfo2 alone; the rest is local there.
FUZZ_HARNESS := grammar model oracle oracle_state harness mallinfo2

CC_libfuzzer    := $(SANCC)
CHECK_libfuzzer := 2
# No comparison tracing: nothing in the grammar is a magic value, and it is two fifths of the time.
OPT_libfuzzer   := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fsanitize-coverage=inline-8bit-counters,pc-table -fno-sanitize-recover=all
CC_afl          := $(AFLCC)
CHECK_afl       := 2
OPT_afl         := -O2 -g -fno-omit-frame-pointer
CC_cover        := $(SANCC)
CHECK_cover     := 2
# In continuous mode (%c) counters are written as they count: what ends by SIGABRT counts, too.
OPT_cover       := -O1 -g -fno-omit-frame-pointer -fprofile-instr-generate -fcoverage-mapping -mllvm -runtime-counter-relocation
# The same of the release source: entry.h and front.h are other code there.
CC_cover-release    := $(SANCC)
CHECK_cover-release := 0
OPT_cover-release   := $(OPT_cover)
FUZZ_VARIANTS   := libfuzzer afl cover cover-release
$(foreach variant,$(FUZZ_VARIANTS),$(eval $(call build_template,$(variant))))
$(OUT)/libfuzzer/libhkm.a: $(call objs,libfuzzer,$(PREFIXED))
	$(make_archive)
$(OUT)/afl/libhkm.a: $(call objs,afl,$(PREFIXED))
	$(make_archive)

# fuzz_template(variant): the harness's objects, and how a program is linked from them.
fuzz_link = $(call cc_of,$(1)) $(filter-out -fPIC,$(call flags_of,$(1))) -pthread $(CFLAGS) $(2) -o $@ $(filter %.o %.a,$^) $(LDFLAGS)
fuzz_objs = $(patsubst %,$(OUT)/$(1)/fuzz/obj/%.o,$(2))
# The harness itself is not instrumented: it is not what is looked for, and runs over every byte.
fuzz_flags = $(if $(filter $(FUZZ_VARIANTS),$(1)),$(filter-out -fPIC,$(BASE)) -O2 -g -DHKM_CHECK=$(call check_of,$(1)),$(filter-out -fPIC,$(call flags_of,$(1))))
define fuzz_template
$(OUT)/$(1)/fuzz/obj/%.o: fuzz/%.c $(OUT)/$(1)/obj/flags fuzz/fuzz.mk
	@mkdir -p $$(@D)
	$(if $(filter libfuzzer,$(1)),$(SANCC),$(call cc_of,$(1))) $(call fuzz_flags,$(1)) $(FUZZ_FLAGS) $(if $(WERROR),-Werror) $$(CFLAGS) -MMD -MP -c -o $$@ $$<
$(OUT)/$(1)/fuzz/obj/mallinfo2.o: $(OUT)/$(1)/obj/api/override.o
	@mkdir -p $$(@D)
	$(OBJCOPY) --keep-global-symbol=mallinfo2 $$< $$@
$(OUT)/$(1)/fuzz/replay $(OUT)/$(1)/fuzz/swarm: $(OUT)/$(1)/fuzz/%: $(OUT)/$(1)/fuzz/obj/%.o $(call fuzz_objs,$(1),player $(FUZZ_HARNESS)) $(call hkm_of,$(1))
	$$(call fuzz_link,$(1))
-include $(wildcard $(OUT)/$(1)/fuzz/obj/*.d)
endef
$(foreach variant,release debug san-address $(FUZZ_VARIANTS),$(eval $(call fuzz_template,$(variant))))

$(OUT)/libfuzzer/fuzz/options: $(call fuzz_objs,libfuzzer,fuzz_options) $(OUT)/libfuzzer/libhkm.a
	$(call fuzz_link,libfuzzer,-fsanitize=fuzzer)
$(OUT)/libfuzzer/fuzz/ops: $(call fuzz_objs,libfuzzer,fuzz_ops mutator $(FUZZ_HARNESS)) $(OUT)/libfuzzer/libhkm.a
	$(call fuzz_link,libfuzzer,-fsanitize=fuzzer)
$(OUT)/afl/fuzz/ops: $(call fuzz_objs,afl,afl fuzz_ops $(FUZZ_HARNESS)) $(OUT)/afl/libhkm.a
	$(call fuzz_link,afl)

.PHONY: fuzz fuzz-afl fuzz-swarm fuzz-replay fuzz-minimize fuzz-coverage
fuzz: $(OUT)/libfuzzer/fuzz/ops
	@fuzz/run libfuzzer $(FUZZ_SECONDS)

fuzz-afl: $(OUT)/afl/fuzz/ops
	@fuzz/run afl $(FUZZ_SECONDS)

fuzz-swarm: $(OUT)/release/fuzz/swarm $(OUT)/debug/fuzz/swarm
	@mkdir -p $(FUZZ_OUT)
	$(OUT)/debug/fuzz/swarm -t $(SECONDS) $(if $(SEED),-s $(SEED)) -o $(FUZZ_OUT)
	$(OUT)/release/fuzz/swarm -t $(SECONDS) $(if $(SEED),-s $(SEED)) -o $(FUZZ_OUT)

fuzz-replay: $(OUT)/debug/fuzz/replay
	$(OUT)/debug/fuzz/replay -v $(if $(SHRINK),-m $(FILE).min) $(FILE)

fuzz-minimize: $(OUT)/libfuzzer/fuzz/ops
	@fuzz/run minimize

# ---- coverage: clang's own, of the checked source, by everything that is linked or preloaded -----

define cover_template
$(call test_template,$(1))
$(OUT)/$(1)/libhkm.a: $(call objs,$(1),$(PREFIXED))
	$$(make_archive)
$(OUT)/$(1)/libhakmem.so.$(ABI): $(call objs,$(1),$(SRCS)) $(MAP)
	$(SANCC) $(SO_LDFLAGS) -fprofile-instr-generate -Wl,-soname,$$(@F) $(CFLAGS) -o $$@ $$(filter %.o,$$^) $(LDFLAGS)
endef
$(foreach variant,cover cover-release,$(eval $(call cover_template,$(variant))))
cover_test = $(SANCC) $(filter-out -fPIC,$(call flags_of,cover)) $(TEST_CFLAGS)
$(OUT)/cover/test/faults/%: sanity/faults/%.c $(OUT)/cover/libhkm.a
	$(call compile_test,$(cover_test),$(OUT)/cover/libhkm.a -ldl -lm)
fuzz-coverage:
	@fuzz/coverage
